"""A DIN's forward pass, with what stands between its input and its logit."""

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
    """Of some rows."""

    model: DIN
    batch: Batch
    logit: Tensor
    events: dict[str, JaggedTensor]
    """What the model's behaviours and target are looked up as."""
    deep: Tensor
    """The MLP's output."""

    def logit_with(self, scores: Tensor) -> Tensor:
        """[B] logits by the head, of the MLP's output and [B, S] scores."""
        head = self.model.head.linear
        return torch.cat([self.deep, scores], dim=1) @ head.weight[0] + head.bias


@torch.no_grad()
def forward(config: DINConfig, dataset: PreparedDataset, n_rows: int) -> Forward:
    """A fresh model on the first rows, as in scoring."""
    torch.manual_seed(0)
    split = dataset.split("full")
    model = with_tables(DIN(config, split.schema)).eval()
    deep: list[Tensor] = []
    model.mlp.register_forward_hook(lambda _, args, out: deep.append(out))
    batch = split.batch(np.arange(n_rows), model.sequences)
    return Forward(model, batch, model(batch), model.events(batch), deep[0])
