"""How long a fit will take: from the rows/s of finished runs, or of a short trial where there are none."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.common.config import RankConfig
from ranking.gbdt import GBDTConfig, GBDTTrainerConfig
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
    """Rows a second of training, and where that was seen."""

    rows_per_s: float
    seen_in: str


def n_row_passes(settings: RankConfig, n_rows: int) -> int:
    """Rows that a fit trains on, all epochs together, if early stopping does not end it before."""
    if isinstance(settings.model, GBDTConfig):
        assert isinstance(settings.trainer, GBDTTrainerConfig)
        return n_rows * -(-settings.model.n_trees // settings.trainer.trees_per_epoch)
    assert isinstance(settings.trainer, TrainerConfig)
    return n_rows * min(settings.trainer.epochs, settings.trainer.stop_after or settings.trainer.epochs)


def try_speed(settings: RankConfig, dataset: PreparedDataset, world: World) -> Speed:
    """Trains on a few batches, and forgets them."""
    split = dataset.split(dataset.split_names[-1], settings.features)
    model, trainer = settings.model, settings.trainer
    if isinstance(model, GBDTConfig):
        assert isinstance(trainer, GBDTTrainerConfig)
        n, passes = _TRIAL_ROWS, _TRIAL_TREES / trainer.trees_per_epoch
        model = model.model_copy(update={"n_trees": _TRIAL_TREES})
        trainer = trainer.model_copy(update={"early_stopping": None, "trees_per_epoch": _TRIAL_TREES})
    else:
        assert isinstance(trainer, TrainerConfig)
        # a laptop may look at the plan of a large GPU, whose batches it could not hold
        size = trainer.batch_size if world.device.type == "cuda" else min(trainer.batch_size, _CPU_BATCH)
        n, passes = _TRIAL_BATCHES * size, 1.0
        changes = {"early_stopping": None, "epochs": 1, "weight_average": 0.0, "batch_size": size}
        trainer = trainer.model_copy(update=changes)
    trial = _with_few_rows(split, n)
    with tempfile.TemporaryDirectory() as folder:
        short = replace(settings, model=model, trainer=trainer)
        quiet, console.quiet = console.quiet, True
        try:
            fit = build_trainer(short.model, short.trainer, trial, None, Path(folder) / "ckpt", Log(None), world)
            start = time.perf_counter()
            fit.fit()
        finally:
            console.quiet = quiet
        return Speed(len(trial.fit_rows) * passes / (time.perf_counter() - start), "a short trial")


def _with_few_rows(split: Split, n: int) -> Split:
    """The split, fitted to a sample of its rows."""
    rows = split.fit_rows
    return replace(split, fit_rows=PermutedSlice(rows, Permutation(len(rows), 0), 0, min(n, len(rows))))


def as_text(seconds: float) -> str:
    """`"45 s"`, `"12 min"`, `"3.2 h"`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
