"""`--dry-run`: which steps of a plan would run, why, and the estimated training time."""

from dataclasses import dataclass, field

from rich.table import Table

from pipelines.common.config import RankConfig
from pipelines.plan.config import EnsembleStep, FinalStep, GateStep, RankStep, Step, SweepStep
from pipelines.plan.estimates import Speed, as_text, n_row_passes, try_speed
from pipelines.plan.final import fixed_length
from pipelines.plan.state import PlanState
from pipelines.plan.steps import FOLDS
from pipelines.rank import choose_splits
from pipelines.search_space import parse_space
from recsys.data.dataset import PreparedDataset
from recsys.runs.metrics import read_metrics
from recsys.system.files import is_done, partial_folder
from recsys.system.progress import console
from recsys.system.world import World


@dataclass
class _Work:
    """The remaining work of a step."""

    reason: str
    fits: list[tuple[RankConfig, int]] = field(default_factory=list)
    """Models to train, each with its number of rows times epochs."""
    is_certain: bool = True


def print_dry_run(state: PlanState, dataset: PreparedDataset, world: World) -> None:
    """Prints the table of steps; measures the speed of models without a finished run on a few batches."""
    title = f"{state.plan.name} on {dataset.name} ({dataset.n_rows:,} rows), into {state.out}"
    table = Table(title=title, title_justify="left")
    for column in ("step", "name", "would run"):
        table.add_column(column)
    for column in ("rows x epochs", "rows/s", "speed from", "time"):
        table.add_column(column, justify="right")
    speeds, total = finished_speeds(state), 0.0
    for step in state.plan.steps:
        if (reason := state.why_not_applicable(step)) is not None:
            name = f"gate {step.gate}" if isinstance(step, GateStep) else step.name
            table.add_row(str(step.step), name, f"not applicable: {reason}", style="dim")
            continue
        if isinstance(step, GateStep):
            verdicts = state.verdicts(step.gate)
            reason = f"no: decided ({verdicts[-1].outcome})" if state.is_decided(step.gate) else "yes: not decided"
            table.add_row(str(step.step), f"gate {step.gate}", reason, style="dim")
            continue
        work, seconds = _work(state, step, dataset), 0.0
        for settings, n_passes in work.fits:
            name = settings.model.name
            if name not in speeds:
                with console.status(f"measuring the speed of {name}"):
                    speeds[name] = try_speed(settings, dataset, world)
            seconds += n_passes / speeds[name].rows_per_s
        names = list(dict.fromkeys(settings.model.name for settings, _ in work.fits))
        figures = (
            f"{sum(n for _, n in work.fits):,}" if work.fits else "",
            ", ".join(f"{speeds[name].rows_per_s:,.0f}" for name in names),
            ", ".join(dict.fromkeys(speeds[name].seen_in for name in names)),
            as_text(seconds) if work.fits else "",
        )
        table.add_row(str(step.step), step.name, work.reason, *figures)
        total += seconds if work.is_certain else 0.0
    console.print(table)
    console.print(
        f"training takes at most {as_text(total)}, and less with early stopping. Scoring, bootstrap samples and the "
        "retrieval index are not included."
    )


def _work(state: PlanState, step: Step, dataset: PreparedDataset) -> _Work:
    match step:
        case RankStep():
            return _rank_work(state, step, dataset)
        case SweepStep():
            return _sweep_work(state, step, dataset)
        case FinalStep() if not is_done(state.folder(step.name)):
            return _Work("yes: not finished (time of all models it may train)", _final_fits(state, step, dataset))
        case GateStep():
            raise AssertionError("a gate has no work")
        case _:
            return _Work("no: finished" if is_done(state.folder(step.name)) else "yes: not finished")


def _rank_work(state: PlanState, step: RankStep, dataset: PreparedDataset) -> _Work:
    is_requested, gate = state.is_required(step.name), state.plan.gate_of_retry(step.name)
    if is_requested is False:
        return _Work(f"no: gate {gate} did not request a retry")
    settings = state.rank_config(step)
    remaining = [(evaluate_on, folder) for evaluate_on, folder in state.fits(step) if not is_done(folder)]
    splits = [name for evaluate_on, _ in remaining for name in choose_splits(dataset, FOLDS[evaluate_on])]
    n_passes = sum(n_row_passes(settings, len(dataset.split(name).fit_rows)) for name in splits)
    fits = [(settings, n_passes)] if remaining else []
    if is_requested is None:
        return _Work(f"only if gate {gate} requests a retry", fits, is_certain=False)
    if not remaining:
        return _Work("no: finished")
    is_interrupted = any(partial_folder(folder).exists() for _, folder in remaining)
    return _Work(f"yes: {'resumes' if is_interrupted else 'not finished'}, {len(splits)} fits", fits)


def _sweep_work(state: PlanState, step: SweepStep, dataset: PreparedDataset) -> _Work:
    space, folder = parse_space(state.sweep_settings(step)), state.folder(step.name)
    points = list(space.grid())
    n_remaining = len(points) - (sum(is_done(path) for path in folder.iterdir()) if folder.is_dir() else 0)
    if n_remaining == 0:
        return _Work("no: finished")
    n_rows = len(dataset.split(f"fold_{step.fold}").fit_rows)
    settings = state.rank_config(step, tuple(space.overrides(points[-1])))
    fits = [(settings, n_remaining * n_row_passes(settings, n_rows))]
    return _Work(f"yes: {n_remaining} of {len(points)} points", fits)


def _final_fits(state: PlanState, step: FinalStep, dataset: PreparedDataset) -> list[tuple[RankConfig, int]]:
    """All models that the final step may train on all rows."""
    names: dict[str, None] = {}
    for name in step.best_of:
        candidate = state.plan.named(name)
        names.update(dict.fromkeys(candidate.members if isinstance(candidate, EnsembleStep) else (name,)))
    n_rows, fits = len(dataset.split("full").fit_rows), []
    for name in names:
        rank_step = state.plan.named(name)
        is_applicable = name not in state.not_applicable.steps
        if isinstance(rank_step, RankStep) and is_applicable and state.is_required(name):
            settings, metrics = state.rank_config(rank_step), state.metrics(name)
            settings = settings if metrics is None else fixed_length(settings, metrics)
            fits.append((settings, n_row_passes(settings, n_rows)))
    return fits


def finished_speeds(state: PlanState) -> dict[str, Speed]:
    """Rows/s of each model in the plan's finished runs."""
    speeds: dict[str, Speed] = {}
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            for _, folder in state.fits(step):
                if is_done(folder) and step.model not in speeds:
                    speeds[step.model] = Speed(read_metrics(folder).train_summary.rows_per_s, folder.name)
    return speeds
