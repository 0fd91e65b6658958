"""The fitted models of a finished run: deep models and trees, which compute the logits of encoded rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ranking.model_config import DeepModelConfig
from ranking.models import build_model
from ranking.trees.config import GBDTConfig
from ranking.trees.libraries import load_forest, tree_file
from ranking.trees.library import predict_trees
from recsys.data.rows import AllRows
from recsys.data.split import Split
from recsys.distributed.sharding import shard
from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.logits import LogitLink
from recsys.nn.precision import Precision
from recsys.schema.feature_selection import FeatureConfig
from recsys.system.threads import n_cores
from recsys.system.world import World
from recsys.training.checkpoint import load_tensors
from recsys.training.config import TrainerConfig
from recsys.training.predict import predict


class Fit(Protocol):
    """A fitted model of a run."""

    def logit(self, split: Split) -> np.ndarray:
        """Returns the model's [n] float32 logits of all rows of the split's data set."""


class DeepFit:
    """A fitted deep model."""

    def __init__(
        self,
        config: DeepModelConfig,
        trainer: TrainerConfig,
        split: Split,
        weights: Path,
        precision: Precision,
        world: World,
    ) -> None:
        self._trainer, self.precision, self._world = trainer, precision, world
        self.model = build_model(config, split.schema)
        batch_size = min(trainer.eval_batch_size, max(1, split.store.n_rows))
        sharded = shard(self.model, trainer.embeddings, trainer.seed, batch_size, world)
        load_tensors(weights, sharded.state_dict())

    def logit(self, split: Split) -> np.ndarray:
        """See `Fit`."""
        rows, batch_size = AllRows(split.store.n_rows), max(1, self._trainer.eval_batch_size // n_parallel_blocks())
        return predict(self.model, split, rows, batch_size, self.precision, self._world, is_shown=False)


class TreeFit:
    """A fitted GBDT."""

    def __init__(self, config: GBDTConfig, weights: Path) -> None:
        self.library, self.path = config.library, weights / tree_file(config.library)
        self._forest = load_forest(self.library, self.path)

    def logit(self, split: Split) -> np.ndarray:
        """See `Fit`."""
        return predict_trees(self._forest, split, AllRows(split.store.n_rows), "")


@dataclass(frozen=True)
class FittedModel:
    """A fitted model with what turns its logits into natural ones."""

    name: str
    split: Split
    features: FeatureConfig
    link: LogitLink
    calibrator: Calibrator
    fit: Fit


def n_parallel_blocks() -> int:
    """Returns the number of blocks in progress: on a GPU one is scored while the next is encoded."""
    return 2 if torch.cuda.is_available() else n_cores()
