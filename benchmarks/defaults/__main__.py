"""Compares training with default settings to a logistic regression and to LightGBM with its own defaults.

python -m benchmarks.defaults
python -m benchmarks.defaults --data criteo --data generated --max-rows 20000
python -m benchmarks.defaults --finished
python -m benchmarks.defaults --retrieval
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.defaults.datasets import SOURCES
from benchmarks.defaults.ranking import BASELINES, Result, compare, is_finished
from benchmarks.defaults.retrieval import defaults_retrieval
from pipelines.common.cli import run_pipeline
from ranking.models import GBDT, model_names
from recsys.errors import InputError
from recsys.system.progress import console

MIN_ROWS = 2_000


def defaults(
    data: Annotated[list[str] | None, typer.Option(help="Data sets. Default: all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Models. Default: all.")] = None,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Compares default retrieval with its baselines instead.")
    ] = False,
    max_rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Leaves out larger sizes.")] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the folds and the initial weights.")] = 0,
    finished: Annotated[
        bool, typer.Option("--finished", help="Prints the sizes whose runs are finished, and trains nothing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are not repeated.")] = Path(
        "runs/defaults"
    ),
) -> None:
    """Train every model with default settings on many data sets and sizes.

    The configs name columns only. A model passes if neither its log loss nor its
    ROC-AUC is worse than the logistic regression's by more than two standard
    errors, and the best model if it is not worse than LightGBM.
    """
    if retrieval:
        defaults_retrieval(out / "retrieval", data)
        return
    names = [source.name for source in SOURCES]
    if unknown := sorted({*(data or ())} - {*names}):
        raise InputError(f"--data {unknown[0]}: unknown data set, choose from {', '.join(names)}")
    models = list(model or model_names())
    if unknown := sorted({*models} - {*model_names()}):
        raise InputError(f"--model {unknown[0]}: unknown model, choose from {', '.join(model_names())}")
    results = []
    for source in SOURCES:
        if data and source.name not in data:
            continue
        for n_rows in source.sizes:
            folder = out / (f"{source.name}-{n_rows}" + (f"-seed-{seed}" if seed else ""))
            if n_rows <= max_rows and (is_finished(folder, models) or not finished):
                results.append(compare(source, n_rows, folder, models, seed))
                console.print(table_of([results[-1]]))
    if not results:
        raise InputError(f"{out} has no finished runs of these data sets and models: leave out --finished")
    console.print(table_of(results))
    print_markdown(results)


def table_of(results: list[Result]) -> Table:
    """Tabulates ROC-AUC / log loss by model; a model that does not pass is red."""
    columns = names_of(results)
    table = Table(title="ROC-AUC / log loss, out-of-fold", title_justify="left")
    for column in ("data", "rows", "clicks", *columns):
        table.add_column(column, justify="left" if column == "data" else "right")
    for result in results:
        table.add_row(*cells(result, columns, "[red]{}[/red]"))
    return table


def names_of(results: list[Result]) -> list[str]:
    """The baselines and models that any result has."""
    names = {name for result in results for name in result.outcomes}
    return [name for name in (*BASELINES, *model_names()) if name in names]


def cells(result: Result, columns: list[str], mark: str) -> list[str]:
    """The cells of a result's row; a model that does not pass is marked, one without the columns it needs is a dash."""
    texts = [result.name.rpartition("-")[0], f"{result.n_rows:,}", f"{int(result.label.sum()):,}"]
    for name in columns:
        if name not in result.outcomes:
            texts.append("-")
            continue
        metrics = result.outcomes[name].metrics
        text = f"{metrics.roc_auc:.4f} / {metrics.logloss:.4f}"
        texts.append(mark.format(text) if failures(result, name) else text)
    return texts


def failures(result: Result, name: str) -> list[str]:
    """The baselines that a model is worse than by more than two standard errors."""
    if name not in result.models:
        return []
    against = [] if name == GBDT else ["logistic regression"]
    against += ["LightGBM"] if name == result.best else []
    return [baseline for baseline in against if any(gap.is_worse for gap in result.gaps(name, baseline).values())]


def print_markdown(results: list[Result]) -> None:
    """Prints the table in Markdown, and every model that does not pass."""
    names = names_of(results)
    columns = ["data", "rows", "clicks", *names]
    lines = [columns, ["---"] * len(columns), *(cells(result, names, "**{}**") for result in results)]
    for line in lines:
        console.print(f"| {' | '.join(line)} |", markup=False, soft_wrap=True)
    for result in results:
        for name in result.models:
            for baseline in failures(result, name):
                gaps = {metric: gap for metric, gap in result.gaps(name, baseline).items() if gap.is_worse}
                text = ", ".join(f"{k} by {g.difference:.4f} (s.e. {g.standard_error:.4f})" for k, g in gaps.items())
                console.print(f"{result.name}: {name} is worse than {baseline}: {text}", style="red")


if __name__ == "__main__":
    run_pipeline(defaults)
