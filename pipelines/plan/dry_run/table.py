"""`--dry-run`: which steps of a plan would run, why, and the estimated time."""

from dataclasses import dataclass, field

from pipelines.common.config import RankConfig
from pipelines.common.splits import choose_splits
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.parts.search_space import parse_space
from pipelines.plan.config import (
    EnsembleStep,
    FinalStep,
    GateStep,
    PrepareStep,
    RankStep,
    RetrievalStep,
    Step,
    SweepStep,
)
from pipelines.plan.dry_run.estimates import (
    METRICS_ROW_S,
    STEP_S,
    Fit,
    Speed,
    as_text,
    bootstrap_seconds,
    finished_speed,
    speed_key,
    stacking_seconds,
    try_speed,
)
from pipelines.plan.dry_run.retrieval_estimate import retrieval_seconds
from pipelines.plan.final import fixed_length
from pipelines.plan.rows import FOLDS_OPTION
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.data.split import FULL
from recsys.evaluation.gates import RunGate
from recsys.report.tables import TextRow, text_table
from recsys.runs.metrics import read_metrics
from recsys.system.files import is_done, partial_folder
from recsys.system.progress import console
from recsys.system.world import World, join_world


@dataclass
class _Work:
    """The remaining work of a step."""

    reason: str
    fits: list[Fit] = field(default_factory=list)
    n_runs: int = 1
    """Run folders that the fits belong to."""
    other_s: float | None = 0.0
    """Seconds besides fits and run folders; None if unknown."""
    is_certain: bool = True


def print_dry_run(state: PlanState, dataset: PreparedDataset, world: World) -> None:
    """Prints the table of steps; measures the speed of models without a finished run in short trials."""
    speeds, total, rows = finished_speeds(state, dataset), 0.0, []
    for step in state.plan.steps:
        if (reason := state.why_not_applicable(step)) is not None:
            name = f"gate {step.gate}" if isinstance(step, GateStep) else step.name
            rows.append(TextRow((str(step.step), name, f"not applicable: {reason}", "", "", "", "", ""), "dim"))
            continue
        work = _work(state, step, dataset, world)
        keys = list(dict.fromkeys(speed_key(fit.settings) for fit in work.fits))
        for fit in work.fits:
            if (key := speed_key(fit.settings)) not in speeds:
                with console.status(f"measuring the speed of {fit.settings.model.name}"):
                    speeds[key] = try_speed(fit.settings, dataset, world)
        is_run = work.reason[:2] != "no" and not isinstance(step, PrepareStep)
        seconds = sum(fit.seconds(speeds[speed_key(fit.settings)]) for fit in work.fits)
        seconds += (work.other_s or 0.0) + (work.n_runs * STEP_S if is_run and not isinstance(step, GateStep) else 0.0)
        total += seconds if work.is_certain and is_run else 0.0
        name = f"gate {step.gate}" if isinstance(step, GateStep) else step.name
        cells = (
            str(step.step),
            name,
            work.reason,
            f"{len(work.fits)}" if work.fits else "",
            f"{max(fit.n_rows for fit in work.fits):,}" if work.fits else "",
            ", ".join(dict.fromkeys(f"{fit.n_rounds:,.0f}" for fit in work.fits)),
            ", ".join(dict.fromkeys(speeds[key].seen_in for key in keys)),
            "" if not is_run else "unknown" if work.other_s is None else as_text(seconds),
        )
        rows.append(TextRow(cells, "dim" if isinstance(step, GateStep) else None))
    columns = ("step", "name", "would run", "fits", "rows a fit", "epochs or trees", "speed from", "time")
    title = f"{state.plan.name} on {dataset.name} ({dataset.n_rows:,} rows), into {state.out}"
    console.print(text_table(title, columns, rows, n_left=3))
    console.print(
        f"the plan takes about {as_text(total)}: early stopping is expected to end fits after the epochs or trees of "
        "the table"
    )


def _work(state: PlanState, step: Step, dataset: PreparedDataset, world: World) -> _Work:
    if isinstance(step, GateStep):
        return _gate_work(state, step, dataset)
    done = is_done(state.folder(step.name))
    match step:
        case RankStep():
            return _rank_work(state, step, dataset)
        case SweepStep():
            return _sweep_work(state, step, dataset)
        case _ if done:
            return _Work("no: finished")
        case RetrievalStep():
            with console.status("measuring the speed of the towers"):
                seconds = retrieval_seconds(state.retrieval_config(step), dataset, world)
            return _Work("yes: not finished", other_s=seconds)
        case EnsembleStep():
            return _ensemble_work(state, step, dataset)
        case FinalStep():
            return _Work("yes: not finished (time of all models it may train)", _final_fits(state, step, dataset))
        case _:
            return _Work("yes: not finished")


def _n_train_rows(dataset: PreparedDataset) -> int:
    return sum(group.n_rows for group in dataset.groups if group.partition == "train")


def _gate_work(state: PlanState, step: GateStep, dataset: PreparedDataset) -> _Work:
    verdicts, gate = state.verdicts(step.gate), state.plan.gates[step.gate]
    if state.is_decided(step.gate):
        return _Work(f"no: decided ({verdicts[-1].outcome})")
    if isinstance(gate, RunGate):
        return _Work("yes: not decided")
    splits = choose_splits(dataset, FOLDS_OPTION[state.resolve(gate.evaluate_on)])
    n_rows = sum(len(rows) for name in splits for rows in dataset.split(name).evaluation_rows.values())
    seconds = bootstrap_seconds(n_rows, state.plan.bootstrap.replicates)
    return _Work("yes: not decided", other_s=seconds * state.plan.seeds)


def _fits(settings: RankConfig, dataset: PreparedDataset, splits: list[str]) -> list[Fit]:
    if not splits:
        return []
    settings, fits = resolve_settings(settings, dataset, splits, join_world()), []
    for name in splits:
        split = dataset.split(name)
        n_evaluated = sum(len(rows) for rows in split.evaluation_rows.values())
        fits += [Fit(settings, len(split.fit_rows), n_evaluated)] * settings.trainer.seeds
    return fits


def _rank_work(state: PlanState, step: RankStep, dataset: PreparedDataset) -> _Work:
    is_requested, gate = state.is_required(step.name), state.plan.gate_of_retry(step.name)
    if is_requested is False:
        return _Work(f"no: gate {gate} did not request a retry")
    remaining = [(evaluate_on, folder) for evaluate_on, folder in state.fits(step) if not is_done(folder)]
    splits = [name for evaluate_on, _ in remaining for name in choose_splits(dataset, FOLDS_OPTION[evaluate_on])]
    fits = _fits(state.rank_config(step), dataset, splits)
    if is_requested is None:
        reason = f"only if gate {gate} requests a retry"
        return _Work(reason, fits, n_runs=len(remaining), is_certain=False)
    if not remaining:
        return _Work("no: finished")
    is_interrupted = any(partial_folder(folder).exists() for _, folder in remaining)
    return _Work(f"yes: {'resumes' if is_interrupted else 'not finished'}", fits, n_runs=len(remaining))


def _sweep_work(state: PlanState, step: SweepStep, dataset: PreparedDataset) -> _Work:
    space, folder = parse_space(state.sweep_settings(step)), state.folder(step.name)
    points = list(space.grid())
    n_remaining = len(points) - (sum(is_done(path) for path in folder.iterdir()) if folder.is_dir() else 0)
    if n_remaining == 0:
        return _Work("no: finished")
    # the last points are often the largest models, which take most of the time
    settings = state.rank_config(step, tuple(space.overrides(points[-1])))
    fits = n_remaining * _fits(settings, dataset, choose_splits(dataset, state.sweep_folds(step)))
    return _Work(f"yes: {n_remaining} of {len(points)} points", fits, n_runs=n_remaining)


def _ensemble_work(state: PlanState, step: EnsembleStep, dataset: PreparedDataset) -> _Work:
    n_rows, n_folds = _n_train_rows(dataset), len([name for name in dataset.split_names if name.startswith("fold_")])
    n_windows = sum(name.startswith("forward_") for name in dataset.split_names)
    seconds = (1 + n_windows) * stacking_seconds(n_rows, len(step.members), n_folds)
    seconds += bootstrap_seconds(n_rows, state.plan.bootstrap.replicates) + METRICS_ROW_S * n_rows
    return _Work("yes: not finished", other_s=seconds)


def _final_fits(state: PlanState, step: FinalStep, dataset: PreparedDataset) -> list[Fit]:
    """All models that the final step may train on all rows, and that score the test rows."""
    names: dict[str, None] = {}
    for name in step.best_of:
        candidate = state.plan.named(name)
        names.update(dict.fromkeys(candidate.members if isinstance(candidate, EnsembleStep) else (name,)))
    n_test = sum(group.n_rows for group in dataset.groups if group.partition == "test")
    n_rows, fits = len(dataset.split(FULL).fit_rows), []
    for name in names:
        rank_step = state.plan.named(name)
        is_applicable = name not in state.not_applicable.steps
        if isinstance(rank_step, RankStep) and is_applicable and state.is_required(name):
            settings, metrics = state.rank_config(rank_step), state.metrics(name)
            settings = resolve_settings(settings, dataset, [FULL], join_world())
            settings = settings if metrics is None else fixed_length(settings, metrics)
            fits += settings.trainer.seeds * [Fit(settings, n_rows, n_test)]
    return fits


def finished_speeds(state: PlanState, dataset: PreparedDataset) -> dict[str, Speed]:
    """The speed of each model in the plan's finished runs, by the key of its settings."""
    speeds: dict[str, Speed] = {}
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            for evaluate_on, folder in state.fits(step):
                if not is_done(folder):
                    continue
                splits, train = choose_splits(dataset, FOLDS_OPTION[evaluate_on]), read_metrics(folder).train_summary
                settings = resolve_settings(state.rank_config(step), dataset, splits, join_world())
                speeds.setdefault(speed_key(settings), finished_speed(settings, train, folder.name))
    return speeds
