"""A model with the objects of an update step."""

import numpy as np
import torch
from torch import Tensor

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from recsys.distributed.sharding import shard
from recsys.system.world import join_world
from recsys.training.config import TrainerConfig
from recsys.training.losses import WeightedLogLoss
from recsys.training.task import RowLoss
from recsys.training.update.mixout import Mixout
from recsys.training.update.optimizers import Optimizers
from recsys.training.update.pipeline import build_pipeline
from recsys.training.update.step import Step
from tests.helpers.jagged_model import Jagged

N_ROWS = 90


class Setup:
    """A model, its optimizers, an update step and three batches."""

    def __init__(self, dataset: PreparedDataset, model: str = "jagged", **settings: object) -> None:
        torch.manual_seed(0)
        split, world = dataset.split("full"), join_world()
        self.config = TrainerConfig.model_validate({"learning_rate": 0.1, "warmup_fraction": 0} | settings)
        sizes = DCNv2Config(embedding_dim=4, hidden_dims=(16,), dropout=0.0, **settings_of(model))
        self.model = Jagged(split.schema) if model == "jagged" else DCNv2(sizes, split.schema)
        sharded = shard(self.model, self.config.embeddings, 0, N_ROWS, world)
        self.optimizers = Optimizers(sharded, self.config, n_steps=1000)
        mixout = Mixout(self.model, self.optimizers.matrices, self.config.mixout)
        precision, n_micro_batches = self.config.precision, self.config.micro_batches
        self.step = Step(RowLoss(self.model, WeightedLogLoss(3.0)), mixout, precision, n_micro_batches, world)
        self.pipeline = build_pipeline(self.step, self.optimizers, world)
        self.batches = [split.batch(np.arange(i * N_ROWS, (i + 1) * N_ROWS), self.model.sequences) for i in range(3)]

    def run(self) -> dict[str, Tensor]:
        """Makes three updates; returns the weights."""
        batches = iter(self.batches)
        for number in range(len(self.batches)):
            self.optimizers.set_rates(number)
            self.pipeline.run(batches, N_ROWS)
        self.pipeline.detach()
        return self.weights()

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.model.named_parameters()}


def settings_of(model: str) -> dict[str, object]:
    return {"gradient_checkpointing": True} if model == "checkpointed" else {}
