"""Fits of a retrieval run: towers for the evaluation, and towers that cross-fit the scores of rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.common.config import RetrievalConfig
from pipelines.common.retrieval_settings import RetrievalSettings
from pipelines.parts.fits import fit_figures
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import TowersFitSummary
from recsys.runs.score_feature import SCORES_FILE, write_scores
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.checkpoint import ResumePoint
from recsys.training.log import Log
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation.exclusion import Exclusion, open_exclusion
from retrieval.fit import Towers, build_retrieval_trainer, load_towers, positives_among


def evaluation_rows(split: Split) -> tuple[Rows, Rows | None]:
    """The rows that metrics are reported on, and the rows that early stopping monitors, if any."""
    *monitored, reported = split.evaluation_rows.values()
    return reported, monitored[0] if monitored else None


def exclusion_of(
    settings: RetrievalSettings, dataset: PreparedDataset, split: Split, catalog: Catalog
) -> Exclusion | None:
    """Returns the items that the settings exclude."""
    table = None if settings.exclude_table is None else Path(settings.exclude_table)
    return open_exclusion(settings.exclude, table, split, dataset.vocabularies, catalog)


def fit_towers(
    run: RunFolder,
    settings: RetrievalConfig,
    split: Split,
    rows: Rows,
    catalog: Catalog,
    monitor: Rows | None,
    world: World,
    name: str,
    exclusion: Exclusion | None = None,
) -> Towers:
    """Fits towers to rows and loads them; skips a fit that this run has finished before."""
    config, weights = settings.retrieval, run.weights(name)
    if not world.broadcast(run.has_fit(name)):
        log = Log(run.tensorboard(name) if world.is_main else None)
        trainer = build_retrieval_trainer(
            config.model,
            config.trainer,
            config.positives,
            split,
            rows,
            catalog,
            monitor,
            exclusion,
            weights,
            log,
            world,
            name,
        )
        report = trainer.fit()
        log.close()
        if world.is_main:
            figures = fit_figures(report, world)
            speed = figures["n_rows_trained"] / figures["seconds"]
            run.save_fit(name, [], TowersFitSummary(**figures, rows_per_s=speed))
        world.broadcast(None)
        trainer.clean_up()
    else:
        console.print(f"{name}  is already trained")
        ResumePoint(weights, world).clear()
    return load_towers(config.model, config.trainer, split, catalog, weights, world)


def score_rows(
    run: RunFolder,
    settings: RetrievalConfig,
    dataset: PreparedDataset,
    split: Split,
    held_out: Sequence[Rows],
    monitor: Rows | None,
    world: World,
) -> None:
    """Writes scores.parquet: each row's own pair scored by towers fitted without it, other rows by the mean of all.

    The other rows are those held out, and the rows to predict: the test rows of the data.
    """
    config = settings.retrieval
    assert config.score_parts is not None
    scored: list[tuple[Rows, np.ndarray]] = []
    is_evaluated = "test" in split.evaluation_rows
    to_predict = () if is_evaluated else (dataset.partition_rows("test"),)
    others = [rows for rows in (*held_out, *to_predict) if len(rows)]
    other_logits = [np.zeros(len(rows), np.float32) for rows in others]
    for part in range(config.score_parts):
        part_rows, fit_rows = dataset.fit_rows_by_part(split.name, part, config.score_parts)
        unseen = [part_rows, *held_out]
        catalog = build_catalog(split, fit_rows, unseen, config.positives == "clicked", config.half_life_days)
        exclusion = exclusion_of(config, dataset, split, catalog)
        name = f"{split.name}_without_{part}"
        towers = fit_towers(run, settings, split, fit_rows, catalog, monitor, world, name, exclusion)
        scored.append((part_rows, towers.logits(part_rows, "scoring")))
        for mean_logits, rows in zip(other_logits, others, strict=True):
            mean_logits += towers.logits(rows, "scoring") / config.score_parts
    if world.is_main:
        scored += zip(others, other_logits, strict=True)
        row_numbers = np.concatenate([rows.numbers() for rows, _ in scored])
        write_scores(run.file(SCORES_FILE), dataset, row_numbers, np.concatenate([logits for _, logits in scored]))


def check_score_parts(settings: RetrievalSettings, dataset: PreparedDataset, split: Split) -> None:
    """Checks that towers can be fitted without each part, before any towers are fitted.

    Raises:
        InputError: when a part has no rows, or all positives.
    """
    for part in range(settings.score_parts or 0):
        part_rows, fit_rows = dataset.fit_rows_by_part(split.name, part, settings.score_parts or 0)
        if len(part_rows) == 0:
            raise InputError(
                f"score_parts={settings.score_parts} exceeds the number of folds: lower it, or set score_parts=null"
            )
        if len(positives_among(split, fit_rows, settings.positives)) == 0:
            raise InputError(
                f"score_parts={settings.score_parts}: all clicks of split {split.name!r} are in one part, so that none "
                "is left to train on: add rows, or set score_parts=null"
            )
