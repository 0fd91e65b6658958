"""Estimates the time of a plan's retrieval step by a short trial of the towers."""

import tempfile
import time
from pathlib import Path

from pipelines.common.config import RetrievalConfig
from pipelines.parts.retrieval_defaults import with_defaults
from pipelines.parts.tower_fits import evaluation_rows
from pipelines.plan.dry_run.estimates import quiet, sample_rows
from pipelines.plan.rows import towers_split
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.system.world import World
from recsys.training.log import Log
from retrieval.catalog import build_catalog
from retrieval.fit import build_retrieval_trainer

_TRIAL_ROWS = 20_000


def retrieval_seconds(settings: RetrievalConfig, dataset: PreparedDataset, world: World) -> float | None:
    """The time of the fits of the towers and of their scores; None if a sample of the rows cannot be fitted."""
    name = towers_split(dataset)
    assert name is not None, "the step is not applicable"
    split = dataset.split(name)
    config = with_defaults(settings, split, world.device.type).retrieval
    reported, _ = evaluation_rows(split)
    sample = sample_rows(split.fit_rows, _TRIAL_ROWS)
    trainer_config = config.trainer.model_copy(update={"epochs": 1, "stop_after": None, "early_stopping": None})
    with tempfile.TemporaryDirectory() as folder, quiet():
        start = time.perf_counter()
        try:
            catalog = build_catalog(split, sample, [reported], config.positives == "clicked", config.half_life_days)
            trainer = build_retrieval_trainer(
                config.model,
                trainer_config,
                config.positives,
                split,
                sample,
                catalog,
                None,
                None,  # without early stopping nothing is ranked
                Path(folder) / "ckpt",
                Log(None),
                world,
                "trial",
            )
            train_s = sum(epoch.seconds for epoch in trainer.fit().progress.epochs)
        except InputError:
            return None
        start_s = time.perf_counter() - start - train_s
        scored = time.perf_counter()
        trainer.predict(sample, "")
        score_row_s = (time.perf_counter() - scored) / len(sample)
    n_rows, n_parts = len(split.fit_rows), config.score_parts or 0
    # the fits without one part have the rows of the other parts
    n_fitted = n_rows + (n_parts - 1) * n_rows if n_parts else n_rows
    n_scored = n_rows + (n_parts + 1) * len(reported)
    n_epochs = min(config.trainer.epochs, config.trainer.stop_after or config.trainer.epochs)
    return (1 + n_parts) * start_s + n_epochs * train_s * n_fitted / len(sample) + score_row_s * n_scored
