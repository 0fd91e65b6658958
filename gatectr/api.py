"""The functions of `import gatectr`: each calls what the command of the same name calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from torch import nn

from gatectr.quiet import printing, public
from gatectr.run import Run
from gatectr.settings import Config, Model, check_choice, config_name, read_config, read_settings
from gatectr.tables import Rows, as_files, is_paths, paths_of
from pipelines.common.cli import find_config
from pipelines.common.config import data_section
from pipelines.common.data import stored_config
from pipelines.compare import compare_runs
from pipelines.ensemble import build_ensemble
from pipelines.plan.command import choose_plan, run_plan
from pipelines.prepare import prepare_files
from pipelines.rank import train
from pipelines.retrieve import open_retriever
from recsys.config import Values
from recsys.data.layout import SCHEMA_FILE
from recsys.errors import InputError
from recsys.evaluation.comparison import By, Comparison
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.stacking import StackMethod
from recsys.runs.layout import PLAN_STATE_FILE
from recsys.system.files import is_done, read_json


@public
def fit(
    data: Rows,
    config: Config | None = None,
    model: Model | None = "dcnv2",
    *,
    test: Rows | None = None,
    folds: str | None = None,
    out: str | Path | None = None,
    models: Sequence[type[nn.Module] | str] = (),
    verbose: bool = False,
    **settings: Any,
) -> Run:
    """Trains and evaluates a ranking model, as `gatectr rank` does.

    Args:
        data: a pandas, polars or Arrow table, a mapping of columns, paths of raw files, or a prepared folder.
        config: a YAML config, its sections as a mapping, or the schema alone, such as `{"label": "clicked",
            "categorical": ["country", "ad"]}`; None takes the config that a prepared folder was prepared with.
        model: the name of a model, a class of one's own, or a mapping of a name and hyperparameters; None takes
            `model.name` of the config.
        test: rows without labels, which a submission can score; or with them, if the schema's split needs them.
        folds: as `--folds`: all, forward, holdout, tuning, full, or fold numbers such as "0,1".
        out: the run folder to write; None writes to a temporary folder that is removed with the result. A finished run
            of the same settings and data is not trained again, and an interrupted one is resumed.
        models: further classes of one's own that the config names.
        verbose: whether to print progress and tables.
        **settings: sections that override the config: `trainer={"epochs": 2}, prepare={"n_folds": 3}`.

    Raises:
        InputError: for wrong settings, or data that does not match them.
    """
    temporary = TemporaryDirectory(prefix="gatectr-run-") if out is None else None
    folder = Path(temporary.name, "run") if temporary is not None else Path(str(out))
    is_prepared = is_paths(data) and is_prepared_folder(paths_of(data))
    if config is None:
        config = stored_config(paths_of(data)[0]) if is_prepared else None
        if config is None:
            raise InputError("fit needs a config or a schema: pass {'label': ..., 'categorical': [...]}")
    run_settings = read_settings(config, model, settings)
    run_settings.check_roles()
    with printing(verbose):
        if is_prepared:
            prepared = paths_of(data)[0]
        else:
            prepared = folder.with_name(f"{folder.name}-data")
            prepare_rows(run_settings.sections, data, prepared, test=test)
        finished = train(run_settings, config_name(config), prepared, folder, folds, command="gatectr.fit")
    return Run(finished.folder, prepared, models, temporary)


@public
def load(path: str | Path, data: str | Path | None = None, models: Sequence[type[nn.Module] | str] = ()) -> Run:
    """Opens a finished run, ensemble or plan.

    Args:
        path: the folder.
        data: the prepared data set; None takes the one that the run recorded.
        models: classes of one's own that the run may load: a run folder may come from somebody else, so that the class
            that it names is not imported otherwise.

    Raises:
        InputError: if the folder is not a finished run.
    """
    run = Run(Path(path), None if data is None else Path(data), models)
    if not is_done(run.folder):
        raise InputError(f"{path} is not a finished run: pass a run folder, such as {example_of(Path(path))}")
    return run


@public
def prepare(
    data: Rows,
    config: Config,
    out: str | Path,
    *,
    valid: Rows | None = None,
    test: Rows | None = None,
    verbose: bool = False,
) -> Path:
    """Prepares rows for training, as `gatectr prepare` does, and returns the folder.

    Args:
        data: training rows, as in `fit`.
        config: a YAML config, its sections as a mapping, or the schema alone.
        out: the folder to write.
        valid: validation rows, if the data has its own.
        test: test rows, with or without labels.
        verbose: whether to print progress and tables.

    Raises:
        InputError: for data that does not match the schema.
    """
    sections, _ = read_config(config)
    with printing(verbose):
        return prepare_rows(sections, data, Path(out), valid, test)


def prepare_rows(sections: Values, data: Rows, out: Path, valid: Rows | None = None, test: Rows | None = None) -> Path:
    """Prepares tables or files; the side tables of a table are in the working folder."""
    with as_files(data, "train") as train, as_files(valid, "valid") as validation, as_files(test, "test") as tested:
        return prepare_files(
            data_section(sections, "config"),
            sections,
            out,
            [str(path) for path in train],
            [str(path) for path in validation],
            [str(path) for path in tested],
            side_folder=None if is_paths(data) else Path.cwd(),
        )


def example_of(folder: Path) -> str:
    """A finished run in a folder, or the form of its path."""
    return next((str(path) for path in sorted(folder.glob("*")) if is_done(path)), "runs/NAME")


def is_prepared_folder(paths: Sequence[Path]) -> bool:
    """Whether paths are that of one prepared data set."""
    return len(paths) == 1 and (paths[0] / SCHEMA_FILE).is_file()


@public
def compare(
    first: Run | Sequence[Run],
    second: Run | Sequence[Run],
    by: By | None = None,
    *,
    n_replicates: int = 1000,
    seed: int = 0,
    verbose: bool = False,
) -> Comparison:
    """Compares two finished runs on their shared rows, as `gatectr compare` does.

    Args:
        first: the baseline, or its runs with several seeds.
        second: the run whose differences from it are computed, or its runs with several seeds.
        by: what a bootstrap sample draws: user, row or day; None draws users if the data names them, otherwise rows.
        n_replicates: number of bootstrap samples.
        seed: seed of the draws.
        verbose: whether to show a progress line.

    Returns:
        The differences second - first by metric, each with its 95 % interval: `.differences["roc_auc"].low`.

    Raises:
        InputError: if the runs share no rows, or users are asked for and unknown.
    """
    check_choice("by", by, By)
    folders = [[run.folder for run in ([runs] if isinstance(runs, Run) else runs)] for runs in (first, second)]
    with printing(verbose):
        (comparison,) = compare_runs(folders, by, n_replicates, seed).comparisons.values()
    return comparison


@public
def ensemble(
    runs: Sequence[Run],
    out: str | Path,
    *,
    method: StackMethod | None = None,
    metric: MetricName | None = None,
    verbose: bool = False,
) -> Run:
    """Stacks finished runs into one model, as `gatectr ensemble` does.

    Args:
        runs: the members, of one data set.
        out: the run folder to write.
        method: the stacking method; None selects it by the metric.
        metric: None takes the first metric that the config of the first member names.
        verbose: whether to print progress.

    Raises:
        InputError: if the members share no rows of both classes.
    """
    check_choice("method", method, StackMethod)
    check_choice("metric", metric, MetricName)
    if len(runs) < 2:
        raise InputError(f"an ensemble needs at least two runs, got {len(runs)}: pass a list of runs")
    with printing(verbose):
        return Run(build_ensemble([run.folder for run in runs], Path(out), method, metric).folder)


@dataclass(frozen=True)
class PlanResult:
    """A finished plan."""

    folder: Path
    gates: dict[str, Any]
    """The verdicts by gate."""
    final: Run | None
    """The model trained on all rows; None for a plan without that step."""

    @property
    def report(self) -> Path:
        """The report, an HTML file."""
        return self.folder / "report.html"


@public
def plan(
    data: str | Path | None,
    out: str | Path,
    config: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    verbose: bool = False,
) -> PlanResult:
    """Runs a plan of training steps and decision gates, as `gatectr plan` does; finished steps are skipped.

    Args:
        data: a prepared folder; None takes the data of the plan's config.
        out: the plan folder to write.
        config: the plan's YAML file; None takes the default plan.
        overrides: as on the command line, `"models.dcnv2=[trainer.epochs=2]"`.
        verbose: whether to print progress and tables.

    Raises:
        InputError: for a plan that the data does not allow, before the first step.
    """
    folder = None if data is None else Path(data)
    with printing(verbose):
        chosen = choose_plan(None if config is None else find_config(Path(config)), folder, tuple(overrides))
        run_plan(chosen, folder, Path(out))
    state = read_json(Path(out) / PLAN_STATE_FILE)
    return PlanResult(Path(out), state["gates"], Run(Path(out)) if state["final"] else None)


@public
def retrieve(
    run: str | Path,
    requests: Rows,
    k: int = 100,
    *,
    exclude: str | Path = "none",
    items: str | Path | None = None,
    data: str | Path | None = None,
    verbose: bool = False,
) -> pa.Table:
    """Retrieves items for requests with a finished retrieval run, as `gatectr retrieve` does.

    Args:
        run: the run folder.
        requests: a table, or paths of files, with the columns of the towers user and context.
        k: items of a request.
        exclude: seen: no items of the request's history; none: all items; or a parquet file of pairs.
        items: a file with the items to retrieve; None retrieves those of the run.
        data: the prepared data set; None takes the one that the run recorded.
        verbose: whether to print progress.

    Returns:
        row_id, rank, item, score: the rows of a request together, best item first.

    Raises:
        InputError: if the folder is not a finished retrieval run, or a column of the requests is missing.
    """
    paths = [None if path is None else Path(path) for path in (data, items)]
    with printing(verbose), as_files(requests, "requests") as files:
        retriever = open_retriever(Path(run), *paths)
        return pa.concat_tables(retriever.retrieve(retriever.open_requests(files), k, str(exclude)))
