"""Losses on logits, and the task that joins one to a model."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.batch import Batch


class WeightedLogLoss(nn.Module):
    """Mean of w y softplus(-z) + (1 - y) softplus(z): the log loss with positives counted w times.

    Args:
        pos_weight: w.
    """

    pos_weight: Tensor

    def __init__(self, pos_weight: float) -> None:
        super().__init__()
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)), persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """[B] logits and [B] labels to a scalar."""
        return functional.binary_cross_entropy_with_logits(logits, label, pos_weight=self.pos_weight)


class RankingTask(nn.Module):
    """A model and its loss, in the form TorchRec's pipelines expect: (loss, logits) = task(batch).

    Args:
        model: `forward(batch) -> [B] logits`.
        loss: `forward(logits, label) -> scalar`.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and [B] logits, the latter detached."""
        logits = self.model(batch)
        return self.loss(logits, batch.label), logits.detach()
