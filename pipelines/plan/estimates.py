"""Estimates training time from the rows/s of finished runs, or of a short trial."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.common.config import RankConfig
from ranking.gbdt_config import GBDTConfig, GBDTTrainerConfig
from ranking.models import build_trainer
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Permutation, PermutedSlice
from recsys.data.split import Split
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log

_TRIAL_BATCHES, _CPU_BATCH, _TRIAL_ROWS, _TRIAL_TREES = 6, 1024, 20_000, 20


@dataclass(frozen=True)
class Speed:
    """Rows per second of training, and the run that it was measured in."""

    rows_per_s: float
    seen_in: str


def n_row_passes(settings: RankConfig, n_rows: int) -> int:
    """Number of rows times epochs of a fit without early stopping."""
    if isinstance(settings.model, GBDTConfig):
        assert isinstance(settings.trainer, GBDTTrainerConfig)
        return n_rows * -(-settings.model.n_trees // settings.trainer.trees_per_epoch)
    assert isinstance(settings.trainer, TrainerConfig)
    return n_rows * min(settings.trainer.epochs, settings.trainer.stop_after or settings.trainer.epochs)


def try_speed(settings: RankConfig, dataset: PreparedDataset, world: World) -> Speed:
    """Measures the training speed on a few batches; keeps nothing."""
    split = dataset.split(dataset.split_names[-1], settings.features)
    model, trainer = settings.model, settings.trainer
    if isinstance(model, GBDTConfig):
        assert isinstance(trainer, GBDTTrainerConfig)
        n_rows, n_passes = _TRIAL_ROWS, _TRIAL_TREES / trainer.trees_per_epoch
        model = model.model_copy(update={"n_trees": _TRIAL_TREES})
        trainer = trainer.model_copy(update={"early_stopping": None, "trees_per_epoch": _TRIAL_TREES})
    else:
        assert isinstance(trainer, TrainerConfig)
        # batches of a plan for a large GPU may not fit a laptop's memory
        size = trainer.batch_size if world.device.type == "cuda" else min(trainer.batch_size, _CPU_BATCH)
        n_rows, n_passes = _TRIAL_BATCHES * size, 1.0
        changes = {"early_stopping": None, "epochs": 1, "weight_average": 0.0, "batch_size": size}
        trainer = trainer.model_copy(update=changes)
    trial_split = _sample_fit_rows(split, n_rows)
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(settings, model=model, trainer=trainer)
        quiet, console.quiet = console.quiet, True
        try:
            fit = build_trainer(trial.model, trial.trainer, trial_split, None, Path(folder) / "ckpt", Log(None), world)
            start = time.perf_counter()
            fit.fit()
        finally:
            console.quiet = quiet
        return Speed(len(trial_split.fit_rows) * n_passes / (time.perf_counter() - start), "short trial")


def _sample_fit_rows(split: Split, n: int) -> Split:
    """The split with a sample of n of its fit rows."""
    rows = split.fit_rows
    return replace(split, fit_rows=PermutedSlice(rows, Permutation(len(rows), 0), 0, min(n, len(rows))))


def as_text(seconds: float) -> str:
    """A duration as text: `"45 s"`, `"12 min"`, `"3.2 h"`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
