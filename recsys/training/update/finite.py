"""Losses, gradients, weights and scores that are not finite: they change no weight, and end training or bf16."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys.errors import InputError
from recsys.system.world import World


class DivergenceError(InputError):
    """The loss, a weight or a score is not finite: training diverged."""

    def __init__(self, problem: str, setting: str = "trainer.learning_rate") -> None:
        super().__init__(f"{problem}: lower {setting} or check the data for extreme values")


class FiniteBatches:
    """Counts the batches whose loss or gradients are not finite, on the device: a step does not wait for the count.

    The running statistics of batch normalization have read such a batch; they are set back to the last good ones.

    Args:
        model: the model that is trained.
        device: its device.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.is_finite = torch.ones((), dtype=torch.bool, device=device)
        """[] whether the last batch was finite."""
        self._n_bad = torch.zeros((), dtype=torch.int64, device=device)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
        self._statistics = [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]
        self._good = [statistic.clone() for statistic in self._statistics]

    def judge(self, value: Tensor) -> None:
        """Records whether a [] value, such as the loss plus the norm of the gradients, is finite."""
        self.is_finite = value.isfinite()
        self._n_bad += ~self.is_finite

    def count(self) -> Tensor:
        """Returns the [] number of bad batches since `settle`."""
        return self._n_bad

    @torch.no_grad()
    def settle(self, n_bad: int) -> None:
        """Begins a new count: keeps the running statistics, or restores them after bad batches."""
        for statistic, good in zip(self._statistics, self._good, strict=True):
            source, target = (good, statistic) if n_bad else (statistic, good)
            target.copy_(source)
        self._n_bad.zero_()


def check_weights(tensors: Mapping[str, Any], world: World) -> None:
    """Checks the weights after the last step of an epoch: no later step computes a loss with them.

    Args:
        tensors: tensors by name; every process passes its shards of sharded tensors.
        world: the processes, all of which must call this function.

    Raises:
        DivergenceError: if a weight is not finite, on any process.
    """
    n_wrong = torch.zeros((), device=world.device)
    for value in tensors.values():
        for tensor in [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]:
            if tensor.is_floating_point() and tensor.numel():
                low, high = tensor.detach().aminmax()  # NaN if any value is; allocates nothing of a table's size
                n_wrong += ~(low.isfinite() & high.isfinite()).to(world.device)
    if world.all_reduce(n_wrong) > 0:
        raise DivergenceError("a weight is not finite after the last step, so the loss is not finite")


def check_scores(scores: np.ndarray, setting: str = "trainer.learning_rate") -> np.ndarray:
    """Returns scores or vectors if all are finite.

    Args:
        scores: any numbers that a model computed.
        setting: the learning rate to lower.

    Raises:
        DivergenceError: if one is not.
    """
    if not np.isfinite(scores).all():
        raise DivergenceError("a score is not finite after the last step, so the loss is not finite", setting)
    return scores
