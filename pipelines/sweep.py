"""Searches settings of a model: a full grid, or ranges with Optuna; every trial is a run folder.

python -m pipelines.sweep --model dcnv2 model.embedding_dim=16,32,64 model.cross_depth=2,3,4
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import optuna
import typer
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, run_pipeline
from pipelines.common.config import load_rank_config
from pipelines.common.data import choose_config, find_prepared, recorded_data
from pipelines.common.splits import choose_splits
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.parts.search_space import Point, SearchSpace, parse_space
from pipelines.parts.sweep_choice import find_simplest, note_on_choice
from pipelines.rank import RUNS, describe, execute, warn_of_leaks
from ranking.models import model_names, short_name
from recsys.data.dataset import PreparedDataset
from recsys.data.groups import TUNING
from recsys.errors import InputError
from recsys.evaluation.metrics import DEFINED_FOR_ONE_CLASS, LOWER_IS_BETTER, METRIC_NAMES, NEEDS_USERS, MetricName
from recsys.evaluation.shown import TITLES, format_metric, shown_metrics, titles
from recsys.report.plots import plot_sweep
from recsys.report.tables import TextRow, text_table
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import RunMetrics
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import check_free, is_done, partial_folder, removed_if_refused, write_json
from recsys.system.progress import console
from recsys.system.world import World, join_world
from recsys.training.update.finite import DivergenceError

SWEEP_FILE = "sweep.json"
_SETTLED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(
    model: Annotated[str, typer.Option(help=f"Model to train: {', '.join(model_names())}.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUES",
            help="KEY=A,B,C tries each value; KEY=LOW..HIGH[:log] samples a range; KEY=VALUE is fixed in all trials.",
        ),
    ],
    config: ConfigOption = None,
    data: Annotated[Path | None, typer.Option(help="Data of the trials, as in pipelines.rank.")] = None,
    out: Annotated[Path | None, typer.Option(help="Sweep folder to write. Default: runs/sweep-DATA-MODEL.")] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="Folds of each trial, as in pipelines.rank. Default: tuning if the data has a tuning part, so that "
            "the choice sees no row that runs report, else as in pipelines.rank."
        ),
    ] = None,
    metric: Annotated[
        MetricName | None, typer.Option(help="Metric that ranks the trials. Default: that of the config.")
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Number of trials of a search over ranges; a grid is tried in full.")
    ] = 20,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop trials that are worse than the median of earlier trials.")
    ] = False,
) -> Path:
    """Search a model's settings.

    Prints a table of trials and writes sweep.json and sweep.png. Running the
    same command again resumes an interrupted sweep, including its interrupted
    trial.
    """
    config = choose_config(config, data, TOSS_CONFIG)
    space = parse_space(settings)
    combinations = [load_rank_config(config, model, space.overrides(point)) for point in space.grid()]
    for combination in combinations:  # all of them before the first is trained
        combination.check_roles()
    world = join_world()
    if world.size > 1:
        raise InputError("a sweep runs in one process: start it without torchrun")
    keep_freed_memory()
    dataset = find_prepared(combinations[0].data, data or recorded_data(combinations[0].run), combinations[0].sections)
    folder = out or RUNS / f"sweep-{dataset.name}-{short_name(model)}"
    splits = choose_splits(dataset, folds or (TUNING if TUNING in dataset.split_names else None))
    warn_of_leaks(dataset, splits)
    with removed_if_refused(folder, lambda: has_trials(folder)):
        run_sweep(model, settings, config, dataset, splits, folder, world, metric, trials, prune)
    console.print(f"sweep folder: {folder}")
    return folder / SWEEP_FILE


def has_trials(folder: Path) -> bool:
    """Whether a sweep folder has a finished trial, or the table of a finished sweep."""
    return (folder / SWEEP_FILE).is_file() or any(is_done(trial) for trial in folder.glob("*"))


def run_sweep(
    model: str,
    settings: Sequence[str],
    config: Path,
    dataset: PreparedDataset,
    splits: list[str],
    folder: Path,
    world: World,
    metric: MetricName | None = None,
    trials: int = 20,
    prune: bool = False,
) -> None:
    """Runs a sweep on a data set and writes its folder; skips trials that are finished there.

    Without a metric, trials are ranked by the first metric that the config names.
    """
    space = parse_space(settings)
    named = load_rank_config(config, model, space.overrides(next(space.grid()))).named_metrics
    metric = metric or named[0]
    check_metric(dataset, splits, metric)
    identity = f"{model} on {dataset.manifest.fingerprint[:16]}, {', '.join(splits)}, by {metric}: {space.describe()}"
    study = open_study(folder, identity, metric, prune)
    enqueue(study, space)

    def objective(trial: optuna.Trial) -> float:
        point = space.suggest(trial)
        trial.set_user_attr("point", point)
        value = run_trial(trial, config, model, space, point, dataset, splits, folder, world).overall.value(metric)
        return float("nan") if value is None else value

    n_trials = len(list(space.grid())) if space.is_grid else trials
    for number in range(count_settled(study), n_trials):
        # one seed per trial: a resumed sweep samples the same points as an uninterrupted one
        study.sampler = optuna.samplers.TPESampler(seed=number)
        study.optimize(objective, n_trials=1)
    finished = report(study, metric, shown_metrics((metric, *named)), folder)
    if not finished:
        raise InputError(f"{folder}: every trial was pruned: search other values, with another --out")
    console.print(note_on_choice(splits, len(finished), metric))
    plot_sweep([(t.user_attrs["point"], float(t.value or 0)) for t in finished], TITLES[metric], folder / "sweep.png")


def check_metric(dataset: PreparedDataset, splits: Sequence[str], metric: MetricName) -> None:
    """Checks that the evaluation rows define the metric that ranks the trials, before the first trial.

    Raises:
        InputError: when they have no rows, rows of one class, or no users.
    """
    if metric in NEEDS_USERS and dataset.manifest.schema_.user is None:
        raise InputError(f"--metric {metric} needs users: name schema.user in the config, or pass another --metric")
    n_rows = n_positive = 0
    for name in splits:
        rows = next(reversed(dataset.split(name).evaluation_rows.values()), None)
        if rows is not None:
            for labels in map(dataset.store.counted_labels, rows.blocks()):
                n_rows += len(labels)
                n_positive += int(labels.sum())
    if n_rows == 0 or (n_positive in (0, n_rows) and metric not in DEFINED_FOR_ONE_CLASS):
        other_metric = "" if metric == "logloss" else ", or --metric logloss"
        raise InputError(
            f"--metric {metric} is undefined on the {n_rows:,} evaluation rows of {', '.join(splits)} "
            f"({n_positive:,} positive): pass other --folds{other_metric}"
        )


def open_study(folder: Path, identity: str, metric: str, prune: bool) -> optuna.Study:
    """Opens the Optuna study of a sweep folder, or creates it.

    Raises:
        InputError: when the folder holds another sweep, or something else.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # it logs the traceback of an error of a trial
    log = folder / "study.log"
    if not log.is_file():
        check_free(folder, "sweep")
    folder.mkdir(exist_ok=True)
    backend = JournalFileBackend(str(log))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3) if prune else optuna.pruners.NopPruner()
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="sweep",
        pruner=pruner,
        direction="minimize" if metric in LOWER_IS_BETTER else "maximize",
        load_if_exists=True,
    )
    if study.user_attrs.setdefault("meaning", identity) != identity:
        raise InputError(f"{folder} holds another sweep ({study.user_attrs['meaning']}): choose another --out")
    study.set_user_attr("meaning", identity)
    return study


def enqueue(study: optuna.Study, space: SearchSpace) -> None:
    """Enqueues the missing points of a grid, or the points of interrupted trials."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if not space.is_grid and trial.params:
            study.enqueue_trial(trial.params)
    if space.is_grid:
        settled = [trial.params for trial in study.get_trials(states=_SETTLED)]
        enqueued = [t.system_attrs.get("fixed_params") for t in study.get_trials(states=(TrialState.WAITING,))]
        for point in space.grid():
            if point not in settled and point not in enqueued:
                study.enqueue_trial(point)


def count_settled(study: optuna.Study) -> int:
    """Number of completed and pruned trials."""
    return len(study.get_trials(states=_SETTLED))


def run_trial(
    trial: optuna.Trial,
    config: Path,
    model: str,
    space: SearchSpace,
    point: Point,
    dataset: PreparedDataset,
    splits: list[str],
    folder: Path,
    world: World,
) -> RunMetrics:
    """Trains the model with the settings of a point and returns its metrics.

    Raises:
        optuna.TrialPruned: when it is worse than the median of earlier trials at the same epoch, or diverges.
    """
    settings = resolve_settings(load_rank_config(config, model, space.overrides(point)), dataset, splits, world)
    name = ",".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())
    run = RunFolder(folder / re.sub(r"[^\w.=,-]", "_", name), describe(settings, dataset, splits))
    monitored_values: list[float] = []

    def on_epoch(monitored: float | None) -> None:
        if monitored is not None:
            # the composite metric of early stopping: higher is better, whatever metric ranks the trials
            monitored_values.append(monitored)
            best, is_maximized = max(monitored_values), trial.study.direction == optuna.study.StudyDirection.MAXIMIZE
            trial.report(best if is_maximized else -best, len(monitored_values))
            if trial.should_prune():
                raise optuna.TrialPruned

    console.print(f"trial {trial.number + 1}  {name}", style="bold")
    if not run.is_done:
        try:
            with run.removed_if_refused():
                execute(run, settings, dataset, splits, world, on_epoch)
        except (optuna.TrialPruned, DivergenceError) as error:
            reason = error if isinstance(error, DivergenceError) else "worse than the median of earlier trials"
            console.print(f"trial {trial.number + 1}  pruned: {reason}")
            shutil.rmtree(partial_folder(run.folder), ignore_errors=True)  # it is already removed after a divergence
            raise optuna.TrialPruned from error
    metrics = run.metrics()
    trial.set_user_attr("metrics", {name: metrics.overall.value(name) for name in METRIC_NAMES})
    trial.set_user_attr("run", str(run.folder))
    trial.set_user_attr("rows_per_s", metrics.train_summary.rows_per_s)
    return metrics


def report(study: optuna.Study, metric: MetricName, shown: Sequence[MetricName], folder: Path) -> list[FrozenTrial]:
    """Prints the trials, best first, writes sweep.json, and returns the completed trials."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    finished.sort(key=lambda trial: sign * (trial.value or 0.0))
    rows = []
    for trial in finished:
        figures = [format_metric(trial.user_attrs["metrics"][name]) for name in shown]
        rows.append(TextRow((*trial.user_attrs["point"].values(), *figures, f"{trial.user_attrs['rows_per_s']:,.0f}")))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    for trial in pruned:
        rows.append(TextRow((*trial.user_attrs["point"].values(), "pruned", *[""] * len(shown)), "dim"))
    keys = list((finished or pruned)[0].user_attrs["point"])
    title = f"{len(finished)} completed trials, best {TITLES[metric]} first"
    console.print(text_table(title, (*keys, *titles(shown), "rows/s"), rows, n_left=0))
    trials = [{**trial.user_attrs, "state": trial.state.name.lower()} for trial in (*finished, *pruned)]
    simplest = find_simplest([folder / Path(trial.user_attrs["run"]).name for trial in finished], metric)
    if simplest is not None:
        console.print(simplest.text(metric))
    chosen = {} if simplest is None else {"simplest": asdict(simplest)}
    write_json(folder / SWEEP_FILE, {"metric": metric, **chosen, "trials": trials})
    return finished


if __name__ == "__main__":
    run_pipeline(sweep)
