"""Layers that two or more models share."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recsys.nn.dice import Dice

_LANES = 4  # 16-bit numbers in one of 64 bits


def concat(parts_BD: Sequence[Tensor]) -> Tensor:
    """[B, D_1], [B, D_2], ... side by side, in the precision that matrix products have here.

    Rounding once, before the parts are copied, is cheaper than in each layer that reads them.
    """
    device = parts_BD[0].device.type
    if torch.is_autocast_enabled(device):
        parts_BD = [part.to(torch.get_autocast_dtype(device)) for part in parts_BD]
    return torch.cat(list(parts_BD), dim=1)


class Dropout(nn.Module):
    """Zeros each unit with some probability and scales the others up.

    On a CPU torch draws one number a unit, one after the other, which takes longer than the layer before it: here one
    64-bit number decides over four units, each by 16 bits of it.

    Args:
        probability: of a unit to be dropped; on a CPU rounded to a multiple of 2^-16.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.probability)
        n_dropped = round(self.probability * 2**16)
        factor = torch.tensor(2**16 / (2**16 - n_dropped), dtype=x.dtype)
        drawn = torch.empty(-(-x.numel() // _LANES), dtype=torch.int64).random_(-(2**63), None)
        # ones and zeros as integers: bools would take several times as long to become numbers
        kept = drawn.view(torch.int16)[: x.numel()].view(x.shape).ge_(n_dropped - 2**15)
        if x.element_size() == kept.element_size():  # the factor's own bits, times 1 or 0
            return x * kept.mul_(factor.view(kept.dtype)).view(x.dtype)
        return x * kept.to(x.dtype).mul_(factor)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"p={self.probability}"


def drop_together(x: Tensor, n_axes: int, probability: float) -> Tensor:
    """Zeros whole slices of x, one for each place along its first `n_axes` axes, and scales the others up."""
    if probability == 0:
        return x
    kept = x.new_empty(*x.shape[:n_axes], *[1] * (x.ndim - n_axes)).bernoulli_(1 - probability)
    return x * kept.div_(1 - probability)


class StochasticDepth(nn.Module):
    """Drops a residual branch, row by row, with some probability and scales the rows that keep it up.

    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016; scaled in training instead of in testing.

    Args:
        probability: of a row to go without the branch.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """[B, ...] to the same."""
        return drop_together(branch, 1, self.probability) if self.training else branch

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"p={self.probability}"


class TokenDropout(nn.Module):
    """Zeros whole tokens with some probability and scales the others up.

    Args:
        probability: of a token to be dropped.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to the same."""
        return drop_together(x_BTD, 2, self.probability) if self.training else x_BTD

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"p={self.probability}"


def checkpointed(function: Callable[..., Tensor], *inputs: Any, is_on: bool = True) -> Tensor:
    """function(*inputs), whose activations are not kept for the backward pass but computed anew there.

    Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174.
    """
    if not is_on or not torch.is_grad_enabled():
        return function(*inputs)
    return cast(Tensor, checkpoint(function, *inputs, use_reentrant=False))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization (Ioffe and Szegedy, ICML 2015) over the rows that go through together: a process's share of a
    batch, or a micro-batch of it. A single row is normalized by the running statistics.
    """

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] to the same."""
        if self.training and len(x_BD) < 2:
            weights = (self.running_mean, self.running_var, self.weight, self.bias)
            return functional.batch_norm(x_BD, *weights, training=False, eps=self.eps)
        return super().forward(x_BD)


Activation = Literal["relu", "prelu", "dice"]


def activation_of(name: Activation, width: int) -> nn.Module:
    """A fresh activation for [B, width] inputs."""
    match name:
        case "relu":
            return nn.ReLU()
        case "prelu":
            return nn.PReLU(width)
        case "dice":
            return Dice(width)


class MLP(nn.Module):
    """Linear -> batch normalization, if wanted -> activation -> dropout, layer after layer.

    Args:
        d_in: width of the input.
        hidden_dims: width of each layer; the last is the output's.
        dropout: probability of a unit to be dropped.
        batch_norm: whether to normalize.
        gradient_checkpointing: whether to keep no more than each layer's input for the backward pass.
        activation: of every layer.
    """

    def __init__(
        self,
        d_in: int,
        hidden_dims: Sequence[int],
        dropout: float,
        batch_norm: bool = False,
        gradient_checkpointing: bool = False,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for d, d_out in zip([d_in, *hidden_dims], hidden_dims, strict=False):
            normalized = [BatchNorm(d_out)] if batch_norm else []
            layer = activation_of(activation, d_out)
            self.layers.append(nn.Sequential(nn.Linear(d, d_out), *normalized, layer, Dropout(dropout)))
        self.d_out = hidden_dims[-1] if hidden_dims else d_in
        self._checkpointing = gradient_checkpointing

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, d_in] to [B, d_out]."""
        for layer in self.layers:
            x_BD = checkpointed(layer, x_BD, is_on=self._checkpointing)
        return x_BD


class LogitHead(nn.Module):
    """The last linear map to one logit, in float32 whatever the precision around it.

    bfloat16 keeps 8 bits: logits would tie and ranking metrics fall.

    Args:
        d_in: width of each input.
    """

    def __init__(self, *d_in: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(d_in), 1)
        self.d_in = d_in

    def forward(self, *inputs_BD: Tensor) -> Tensor:
        """[B, d_in[0]], [B, d_in[1]], ... to [B]."""
        with torch.autocast(inputs_BD[0].device.type, enabled=False):
            weights = self.linear.weight[0].split(self.d_in)
            terms = [x.float() @ w for x, w in zip(inputs_BD, weights, strict=True)]
            return torch.stack(terms).sum(0) + self.linear.bias
