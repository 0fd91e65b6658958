"""What a plan would do now, why, and for how long, without doing it."""

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
    """What a step has before it."""

    why: str
    fits: list[tuple[RankConfig, int]] = field(default_factory=list)
    """Models to train, and the rows of all of their epochs."""
    is_certain: bool = True


def print_dry_run(state: PlanState, dataset: PreparedDataset, world: World) -> None:
    """The table of steps; models that no run has measured yet are tried on a few batches."""
    title = f"{state.plan.name} on {dataset.name} ({dataset.n_rows:,} rows), into {state.out}"
    table = Table(title=title, title_justify="left")
    for column in ("step", "what", "would it run"):
        table.add_column(column)
    for column in ("row passes", "rows/s", "seen in", "time"):
        table.add_column(column, justify="right")
    speeds, total = finished_speeds(state), 0.0
    for step in state.plan.steps:
        if isinstance(step, GateStep):
            said = state.verdicts(step.gate)
            why = f"no: it said {said[-1].outcome}" if state.is_decided(step.gate) else "yes: not decided yet"
            table.add_row(str(step.step), f"gate {step.gate}", why, style="dim")
            continue
        found, seconds = _work(state, step, dataset), 0.0
        for settings, n_passes in found.fits:
            name = settings.model.name
            if name not in speeds:
                with console.status(f"a short trial of {name}"):
                    speeds[name] = try_speed(settings, dataset, world)
            seconds += n_passes / speeds[name].rows_per_s
        names = list(dict.fromkeys(settings.model.name for settings, _ in found.fits))
        figures = (
            f"{sum(n for _, n in found.fits):,}" if found.fits else "",
            ", ".join(f"{speeds[name].rows_per_s:,.0f}" for name in names),
            ", ".join(dict.fromkeys(speeds[name].seen_in for name in names)),
            as_text(seconds) if found.fits else "",
        )
        table.add_row(str(step.step), step.name, found.why, *figures)
        total += seconds if found.is_certain else 0.0
    console.print(table)
    console.print(
        f"training takes {as_text(total)} at most: early stopping ends fits sooner. Scoring, bootstrap samples and the "
        "index come on top."
    )


def _work(state: PlanState, step: Step, dataset: PreparedDataset) -> _Work:
    match step:
        case RankStep():
            return _rank_work(state, step, dataset)
        case SweepStep():
            return _sweep_work(state, step, dataset)
        case FinalStep() if not is_done(state.folder(step.name)):
            return _Work("yes: not done yet (the time is that of all it may need)", _final_fits(state, step, dataset))
        case GateStep():
            raise AssertionError("gates train nothing")
        case _:
            return _Work("no: it is done" if is_done(state.folder(step.name)) else "yes: not done yet")


def _rank_work(state: PlanState, step: RankStep, dataset: PreparedDataset) -> _Work:
    wanted, gate = state.is_wanted(step.name), state.plan.is_retry(step.name)
    if wanted is False:
        return _Work(f"no: gate {gate} did not ask for it")
    settings = state.rank_config(step)
    left = [(evaluate_on, folder) for evaluate_on, folder in state.fits(step) if not is_done(folder)]
    splits = [name for evaluate_on, _ in left for name in choose_splits(dataset, FOLDS[evaluate_on])]
    n_passes = sum(n_row_passes(settings, len(dataset.split(name).fit_rows)) for name in splits)
    fits = [(settings, n_passes)] if left else []
    if wanted is None:
        return _Work(f"only if gate {gate} asks for it", fits, is_certain=False)
    if not left:
        return _Work("no: it is done")
    is_cut = any(partial_folder(folder).exists() for _, folder in left)
    return _Work(f"yes: {'it goes on where it was cut' if is_cut else 'not done yet'}, {len(splits)} fits", fits)


def _sweep_work(state: PlanState, step: SweepStep, dataset: PreparedDataset) -> _Work:
    space, folder = parse_space(state.sweep_settings(step)), state.folder(step.name)
    points = list(space.grid())
    n_left = len(points) - (sum(is_done(path) for path in folder.iterdir()) if folder.is_dir() else 0)
    if n_left == 0:
        return _Work("no: it is done")
    n_rows = len(dataset.split(f"fold_{step.fold}").fit_rows)
    settings = state.rank_config(step, tuple(space.overrides(points[-1])))
    return _Work(f"yes: {n_left} of {len(points)} points", [(settings, n_left * n_row_passes(settings, n_rows))])


def _final_fits(state: PlanState, step: FinalStep, dataset: PreparedDataset) -> list[tuple[RankConfig, int]]:
    """Every model that the last step may have to train on all rows."""
    names: dict[str, None] = {}
    for name in step.best_of:
        of = state.plan.named(name)
        names.update(dict.fromkeys(of.members if isinstance(of, EnsembleStep) else (name,)))
    n_rows, fits = len(dataset.split("full").fit_rows), []
    for name in names:
        of = state.plan.named(name)
        if isinstance(of, RankStep) and state.is_wanted(name):
            settings, metrics = state.rank_config(of), state.metrics(name)
            settings = settings if metrics is None else fixed_length(settings, metrics)
            fits.append((settings, n_row_passes(settings, n_rows)))
    return fits


def finished_speeds(state: PlanState) -> dict[str, Speed]:
    """Rows/s of each model in the plan's finished runs."""
    found: dict[str, Speed] = {}
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            for _, folder in state.fits(step):
                if is_done(folder) and step.model not in found:
                    found[step.model] = Speed(read_metrics(folder).trained.rows_per_s, folder.name)
    return found
