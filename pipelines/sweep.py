"""Searches a model's settings: a grid, or ranges with Optuna; every trial is a run folder.

python -m pipelines.sweep --model dcnv2 model.embedding_dim=16,32,64 model.cross_depth=2,3,4
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import optuna
import typer
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, run_pipeline
from pipelines.common.config import load_rank_config
from pipelines.common.data import find_prepared
from pipelines.rank import RUNS, choose_splits, describe, execute
from pipelines.search_space import Point, SearchSpace, parse_space
from ranking.models import model_names
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES, MetricName, format_metric
from recsys.report.plots import plot_sweep
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import RunMetrics
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import partial_folder, write_json
from recsys.system.progress import console
from recsys.system.world import World, join_world

_SETTLED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(
    model: Annotated[str, typer.Option(help=f"One of {', '.join(model_names())}.")],
    settings: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUES", help="KEY=A,B,C to try each; KEY=LOW..HIGH[:log] to search; KEY=VALUE."),
    ],
    config: ConfigOption = TOSS_CONFIG,
    data: Annotated[Path | None, typer.Option(help="As for pipelines.rank.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep. Left out: runs/sweep-DATA-MODEL.")] = None,
    folds: Annotated[str | None, typer.Option(help="As for pipelines.rank.")] = None,
    metric: Annotated[MetricName, typer.Option(help="What trials are ranked by.")] = "toss_score",
    trials: Annotated[
        int, typer.Option(min=1, help="Points to try where ranges are searched; a grid is tried whole.")
    ] = 20,
    prune: Annotated[bool, typer.Option("--prune", help="Stop trials that do worse than the median so far.")] = False,
) -> None:
    """Search a model's settings.

    A killed sweep goes on when the same command is given again, within the trial that was cut too. Ends with a table,
    sweep.json and sweep.png.
    """
    space = parse_space(settings)
    for point in space.grid():  # every combination is checked before the first is trained
        load_rank_config(config, model, space.overrides(point))
    world = join_world()
    if world.size > 1:
        raise InputError("a sweep runs in one process: start it without torchrun")
    keep_freed_memory()
    dataset = find_prepared(load_rank_config(config, model, space.overrides(next(space.grid()))).data, data)
    folder = out or RUNS / f"sweep-{dataset.name}-{model}"
    run_sweep(model, settings, config, dataset, choose_splits(dataset, folds), folder, world, metric, trials, prune)
    console.print(f"sweep folder: {folder}")


def run_sweep(
    model: str,
    settings: Sequence[str],
    config: Path,
    dataset: PreparedDataset,
    splits: list[str],
    folder: Path,
    world: World,
    metric: MetricName = "toss_score",
    trials: int = 20,
    prune: bool = False,
) -> None:
    """Searches on a data set, into a folder; what was finished there before is not done again."""
    space = parse_space(settings)
    meaning = f"{model} on {dataset.manifest.fingerprint[:16]}, {', '.join(splits)}, by {metric}: {space.describe()}"
    study = open_study(folder, meaning, metric, prune)
    enqueue(study, space)

    def objective(trial: optuna.Trial) -> float:
        point = space.suggest(trial)
        trial.set_user_attr("point", point)
        value = run_trial(trial, config, model, space, point, dataset, splits, folder, world).overall.value(metric)
        return float("nan") if value is None else value

    n_wanted = len(list(space.grid())) if space.is_grid else trials
    for number in range(count_settled(study), n_wanted):
        # A seed for each trial: a sweep that goes on draws the points that it would have drawn uncut.
        study.sampler = optuna.samplers.TPESampler(seed=number)
        study.optimize(objective, n_trials=1)
    finished = report(study, metric, folder)
    plot_sweep([(t.user_attrs["point"], float(t.value or 0)) for t in finished], metric, folder / "sweep.png")


def open_study(folder: Path, meaning: str, metric: str, prune: bool) -> optuna.Study:
    """The study kept in a folder, made if there is none.

    Raises:
        InputError: when the folder holds another sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(folder / "study.log"))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3) if prune else optuna.pruners.NopPruner()
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="sweep",
        pruner=pruner,
        direction="minimize" if metric in LOWER_IS_BETTER else "maximize",
        load_if_exists=True,
    )
    if study.user_attrs.setdefault("meaning", meaning) != meaning:
        raise InputError(f"{folder} holds another sweep ({study.user_attrs['meaning']}): choose another --out")
    study.set_user_attr("meaning", meaning)
    return study


def enqueue(study: optuna.Study, space: SearchSpace) -> None:
    """Lines up the points of a grid, and those of trials that were cut."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if not space.is_grid and trial.params:
            study.enqueue_trial(trial.params)
    if space.is_grid:
        settled = [trial.params for trial in study.get_trials(states=_SETTLED)]
        waiting = [t.system_attrs.get("fixed_params") for t in study.get_trials(states=(TrialState.WAITING,))]
        for point in space.grid():
            if point not in settled and point not in waiting:
                study.enqueue_trial(point)


def count_settled(study: optuna.Study) -> int:
    """Trials that came to an end, or were stopped."""
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
    """Trains the model at a point; its metrics.json.

    Raises:
        optuna.TrialPruned: when it does worse than others did by then.
    """
    settings = load_rank_config(config, model, space.overrides(point))
    name = ",".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())
    run = RunFolder(folder / re.sub(r"[^\w.=,-]", "_", name), describe(settings, dataset, splits))
    seen: list[float] = []

    def on_epoch(monitored: float | None) -> None:
        if monitored is not None:
            seen.append(monitored)  # the composite metric: higher is better, whatever the sweep ranks by
            is_rising = trial.study.direction == optuna.study.StudyDirection.MAXIMIZE
            trial.report(max(seen) if is_rising else -max(seen), len(seen))
            if trial.should_prune():
                raise optuna.TrialPruned

    console.print(f"[bold]trial {trial.number + 1}[/bold]  {name}")
    if not run.is_done:
        try:
            execute(run, settings, dataset, splits, world, on_epoch)
        except optuna.TrialPruned:
            console.print(f"trial {trial.number + 1}  stopped: it does worse than the median of earlier ones")
            shutil.rmtree(partial_folder(run.folder))
            raise
    metrics = run.metrics()
    trial.set_user_attr("metrics", {name: metrics.overall.value(name) for name in METRIC_NAMES})
    trial.set_user_attr("run", str(run.folder))
    trial.set_user_attr("rows_per_s", metrics.trained.rows_per_s)
    return metrics


def report(study: optuna.Study, metric: str, folder: Path) -> list[FrozenTrial]:
    """Prints the trials, best first, and writes sweep.json; the finished ones."""
    falls = metric in LOWER_IS_BETTER
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    finished.sort(key=lambda trial: (trial.value if falls else -trial.value) if trial.value is not None else 0.0)
    table = Table(title=f"{len(finished)} trials, best {metric} first", title_justify="left")
    keys = list(finished[0].user_attrs["point"]) if finished else []
    for column in (*keys, *METRIC_NAMES, "rows/s"):
        table.add_column(column, justify="right")
    for trial in finished:
        figures = [format_metric(trial.user_attrs["metrics"][name]) for name in METRIC_NAMES]
        table.add_row(*trial.user_attrs["point"].values(), *figures, f"{trial.user_attrs['rows_per_s']:,.0f}")
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    for trial in pruned:
        table.add_row(*trial.user_attrs["point"].values(), *["stopped"] + [""] * len(METRIC_NAMES), style="dim")
    console.print(table)
    described = [{**trial.user_attrs, "state": trial.state.name.lower()} for trial in (*finished, *pruned)]
    write_json(folder / "sweep.json", {"metric": metric, "trials": described})
    return finished


if __name__ == "__main__":
    run_pipeline(sweep)
