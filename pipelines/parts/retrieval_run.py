"""The towers, the items and the data set of a finished retrieval run."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.common.config import RetrievalConfig, load_retrieval_config
from pipelines.common.data import open_data
from pipelines.parts.tower_fits import evaluation_rows
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.layout import CHECKPOINTS, CONFIG_FILE
from recsys.system.files import is_done
from recsys.system.world import World, join_world
from retrieval.catalog import Catalog, build_catalog
from retrieval.fit import Towers, load_towers
from retrieval.index import DESCRIPTION_FILE, load_index
from retrieval.serving.retriever import Retriever


@dataclass(frozen=True)
class OpenRetrieval:
    """A finished retrieval run."""

    folder: Path
    settings: RetrievalConfig
    dataset: PreparedDataset
    split: Split
    catalog: Catalog
    towers: Towers

    @classmethod
    def open(cls, run: Path, data: Path | None, world: World) -> "OpenRetrieval":
        """Opens a run.

        Args:
            run: the run folder.
            data: the prepared data set of the run; None opens the folder that the run recorded.
            world: the device.

        Raises:
            InputError: when the run is not a finished retrieval run, or its data is missing.
        """
        if not is_done(run) or not (run / CONFIG_FILE).is_file():
            raise InputError(f"{run} is not a finished retrieval run: give a run folder of pipelines.retrieval")
        settings = load_retrieval_config(run / CONFIG_FILE, [])
        if settings.run.data is None or not (run / DESCRIPTION_FILE).is_file():
            raise InputError(f"{run} is not a retrieval run: give a run folder of pipelines.retrieval")
        dataset = open_data(Path(settings.run.data.folder), data, f"of {run}")
        if dataset.manifest.fingerprint != settings.run.data.fingerprint:
            raise InputError(f"{run} was not trained on {dataset.folder}: pass the data set of the run with --data")
        config = settings.retrieval
        (name,) = settings.run.splits
        split = dataset.split(name)
        reported, monitor = evaluation_rows(split)
        held_out = [reported, *([monitor] if monitor else [])]
        is_clicked_only = config.positives == "clicked"
        catalog = build_catalog(split, split.fit_rows, held_out, is_clicked_only, config.half_life_days)
        towers = load_towers(config.model, config.trainer, split, catalog, run / CHECKPOINTS / name, world)
        return cls(run, settings, dataset, split, catalog, towers)


def open_retriever(run: Path, data: Path | None = None, items: Path | None = None) -> Retriever:
    """Opens a finished retrieval run; its index is checked once, here.

    Args:
        run: the run folder.
        data: the prepared data set of the run; None opens the folder that the run recorded.
        items: a file with the items to retrieve; None retrieves those of the run.

    Raises:
        InputError: when the run is not a finished retrieval run, a file of it is damaged, or its data is missing.
    """
    world = join_world()
    opened = OpenRetrieval.open(run, data, world)
    config, towers = opened.settings.retrieval, opened.towers
    index = load_index(run, towers.identity, config.index.device)
    retriever = Retriever(opened.dataset, opened.split, towers, index, opened.catalog.names, world)
    if items is not None:
        retriever.use_items(items, config.index, config.trainer.seed)
    return retriever
