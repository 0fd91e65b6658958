"""A DIN's forward pass with its intermediate values.

Shapes: B rows of a batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchrec import JaggedTensor

from ranking.din import DIN, DINConfig
from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from tests.helpers.sharded import with_tables


@dataclass(frozen=True)
class Forward:
    """A forward pass on some rows."""

    model: DIN
    batch: Batch
    logit: Tensor
    events: dict[str, JaggedTensor]
    """Embeddings of the model's behaviors and target."""
    deep: Tensor
    """The MLP's output."""

    def logit_with(self, scores: Tensor) -> Tensor:
        """[B] logits of the head for the MLP's output and [B, n_sequences] scores."""
        head = self.model.head.linear
        return torch.cat([self.deep, scores], dim=1) @ head.weight[0] + head.bias


@torch.no_grad()
def forward(config: DINConfig, dataset: PreparedDataset, n_rows: int) -> Forward:
    """Runs a new model in eval mode on the first rows."""
    torch.manual_seed(0)
    split = dataset.split("full")
    model = with_tables(DIN(config, split.schema)).eval()
    deep: list[Tensor] = []
    model.mlp.register_forward_hook(lambda _, args, out: deep.append(out))
    batch = split.batch(np.arange(n_rows), model.sequences)
    return Forward(model, batch, model(batch), model.events(batch), deep[0])
