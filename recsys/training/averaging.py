"""An average of the weights over the steps of training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """Exponential moving averages of tensors, which take their place to be judged and kept.

    The weights of late steps lie around a better model than any of them is. Source: Polyak and Juditsky, "Acceleration
    of stochastic approximation by averaging", 1992, with exponential weights; the decay rises with the steps done, so
    that the first ones are soon forgotten. Not torch's AveragedModel, which copies the module: a sharded one cannot be.

    Args:
        tensors: by name; they are read anew at each step.
        decay: of the average in a step; 0 averages nothing.
    """

    def __init__(self, tensors: Iterable[tuple[str, Tensor]], decay: float) -> None:
        self._decay = decay
        self._own = {name: tensor.detach() for name, tensor in tensors} if decay else {}
        self.means = {name: tensor.clone() for name, tensor in self._own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the tensors as they are after `step` steps, the first of which is 1, into their averages."""
        if self.means:
            decay = min(self._decay, step / (10 + step))
            torch._foreach_lerp_(list(self.means.values()), list(self._own.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the tensors hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.means.items():
            kept = self._own[name].clone()
            self._own[name].copy_(mean)
            mean.copy_(kept)
