"""Exports a finished run, with its card, for the command, for plans and for gates."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranking.scoring import RunData, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.system.world import World
from serving.export.card import model_card

if TYPE_CHECKING:
    from serving.export.retrieval import ExportedRetrieval


def export_run(
    run: Path,
    data: RunData,
    dataset: PreparedDataset,
    out: Path,
    world: World,
    gates: dict[str, Any] | None = None,
    retrieval: "ExportedRetrieval | None" = None,
    **options: Any,
) -> float:
    """Exports a run; returns the largest difference in natural logit from its own scores of prepared rows.

    Args:
        run: the folder of a run, an ensemble or a plan's final run.
        data: its data set and members.
        dataset: the data set.
        out: the folder to write.
        world: the processes.
        gates: the verdicts of a plan's gates by name, for the card.
        retrieval: the run that retrieves candidates, if any.
        options: see `ExportOptions`.

    Raises:
        InputError: for a run that cannot be exported, or without the packages that write a bundle.
    """
    try:
        from serving.export.bundle import ExportOptions, write_bundle
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed, which bundles need: pip install 'gatectr[serve]'") from error
    scorer = load_scorer(run, data, dataset, world)
    card = model_card(run, data, dataset, gates or {})
    return write_bundle(scorer, dataset, out, run.name, ExportOptions(**options), card, retrieval)
