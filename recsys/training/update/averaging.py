"""Exponential moving average of the weights during training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recsys.training.update.optimizers import Optimizers


def averaged_tensors(model: nn.Module, optimizers: Optimizers) -> Iterator[tuple[str, Tensor]]:
    """Yields the parameters of AdamW and the running statistics of a model, by name."""
    for parameter in optimizers.parameters:
        yield optimizers.names[id(parameter)], parameter
    for prefix, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d):
            for name, buffer in module.named_buffers():
                if buffer.is_floating_point():
                    yield f"{prefix}.{name}", buffer


class WeightAverage:
    """Exponential moving averages of tensors, used in their place for validation and in the saved weights.

    The average of the weights of late steps is a better model than the weights of any single step. Source: Polyak and
    Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with exponential weights; the decay rises
    with the number of steps, so that the first steps soon lose their influence. torch's AveragedModel copies the
    module, and a sharded module cannot be copied.

    Args:
        tensors: tensors by name; each update reads their current values.
        decay: decay of the average per step; 0 disables averaging.
    """

    def __init__(self, tensors: Iterable[tuple[str, Tensor]], decay: float) -> None:
        self._decay = decay
        self._tensors = {name: tensor.detach() for name, tensor in tensors} if decay else {}
        self.means = {name: tensor.clone() for name, tensor in self._tensors.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Updates the averages with the tensors after step number `step`, counted from 1."""
        if self.means:
            decay = min(self._decay, step / (10 + step))
            torch._foreach_lerp_(list(self.means.values()), list(self._tensors.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context manager in which the tensors hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.means.items():
            current = self._tensors[name].clone()
            self._tensors[name].copy_(mean)
            mean.copy_(current)
