"""Exports a finished run, ensemble or plan to a bundle: one folder that scores requests without torch.

python -m pipelines.export --run runs/a --out bundles/a
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import ModelClass, run_pipeline
from pipelines.common.data import open_data
from pipelines.parts.retrieval_run import OpenRetrieval
from pipelines.parts.run_data import final_run
from pipelines.plan.state import GATES
from ranking.own_model import name_model
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.runs.submission import SCALE_HELP, ChosenScale, resolve_scale
from recsys.system.files import check_free, read_json
from recsys.system.progress import console
from recsys.system.world import World, join_world
from serving.export.retrieval import ExportedRetrieval
from serving.export.run import export_run
from serving.runtime.layout import NumberType


def export(
    run: Annotated[Path, typer.Option(help="Folder of a finished run, ensemble or plan.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set of the run. Default: the folder recorded in the run.")
    ] = None,
    retrieval: Annotated[
        Path | None,
        typer.Option(help="Folder of a finished retrieval run on the same data: the server then answers /recommend."),
    ] = None,
    weights: Annotated[
        NumberType,
        typer.Option(
            "--weights",
            "--tables",
            help="Numbers of the embedding tables and matrices. int8: with a factor for each row.",
        ),
    ] = "fp32",
    pt2: Annotated[
        bool,
        typer.Option(
            "--pt2",
            help="Write the graphs as programs of torch.export too, and compiled where there is a C++ compiler.",
        ),
    ] = False,
    scale: Annotated[ChosenScale, typer.Option(help=f"The score of an answer. {SCALE_HELP}")] = "auto",
    model_class: ModelClass = None,
) -> None:
    """Export a run for serving.

    The folder holds the models, vocabularies, statistics, calibration and
    stack, a model card and an example request. `pipelines.serve` answers
    requests with it, and `serving.runtime.bundle` scores them from Python.
    """
    check_free(out, "bundle")
    for path in model_class or []:
        name_model(path)
    final = final_run(run)
    run_data = find_run_data(final)
    dataset = open_data(run_data.folder, data, f"of {final}")
    world = join_world()
    towers = None if retrieval is None else _open_retrieval(retrieval, dataset, world)
    gates = {path.stem: read_json(path) for path in sorted((run / GATES).glob("*.json"))}
    written = resolve_scale(scale, final)
    options = {"weights": weights, "pt2": pt2, "scale": written}
    difference = export_run(final, run_data, dataset, out, world, gates, towers, **options)
    n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console.print(
        f"{out}: {n_bytes / 2**20:,.1f} MiB, scores at the {written} scale, scores differ from the run by at most "
        f"{difference:.1g} in logit"
    )


def _open_retrieval(run: Path, dataset: PreparedDataset, world: World) -> ExportedRetrieval:
    opened = OpenRetrieval.open(run, dataset.folder, world)
    model = opened.towers.model.cpu()
    return ExportedRetrieval(run, model, opened.split, opened.catalog, opened.dataset)


if __name__ == "__main__":
    run_pipeline(export)
