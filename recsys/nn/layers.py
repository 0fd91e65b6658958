"""Layers shared by several models.

Shapes: B rows of a batch, F fields, D width of a vector, K predictions of a row.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from recsys.nn.dice import Dice

_DRAWS_PER_INT64 = 4  # 16-bit random numbers per 64-bit number


def concat(inputs_BD: Sequence[Tensor]) -> Tensor:
    """Concatenates [B, D_1], [B, D_2], ... to [B, D_1 + D_2 + ...], in the dtype of autocast if it is on.

    Rounding once before the copy is cheaper than rounding in every layer that reads the result.
    """
    device = inputs_BD[0].device.type
    if torch.is_autocast_enabled(device):
        inputs_BD = [x_BD.to(torch.get_autocast_dtype(device)) for x_BD in inputs_BD]
    return torch.cat(list(inputs_BD), dim=1)


ALIGNMENT = {"cuda": 8}
"""Numbers to a multiple of which the width of a product's input is filled up, by type of device: a GPU's kernels for
16-bit matrices read eight numbers at a time, and those for other widths take twice as long."""


def aligned(width: int, device: str) -> int:
    """The next width that suits the matrix products of a type of device."""
    multiple = ALIGNMENT.get(device, 1)
    return -(-width // multiple) * multiple


def concat_aligned(inputs_BD: Sequence[Tensor]) -> Tensor:
    """Like `concat`, with columns of zeros up to an aligned width. `Linear` has no weights for them."""
    first, width = inputs_BD[0], sum(x_BD.shape[1] for x_BD in inputs_BD)
    n_missing = aligned(width, first.device.type) - width
    return concat([*inputs_BD, first.new_zeros(len(first), n_missing)] if n_missing else inputs_BD)


class Linear(nn.Linear):
    """A linear layer whose input may have columns of zeros after its own, and whose output may get some.

    The weights, and so the checkpoints, have the true widths.
    """

    def forward(self, x_BD: Tensor, d_out: int | None = None) -> Tensor:
        """[..., d_in or more] to [..., d_out], by default the layer's own output width."""
        n_in, n_out = x_BD.shape[-1] - self.in_features, (d_out or self.out_features) - self.out_features
        if not n_in and not n_out:
            return functional.linear(x_BD, self.weight, self.bias)
        bias = None if self.bias is None else functional.pad(self.bias, (0, n_out))
        return functional.linear(x_BD, functional.pad(self.weight, (0, n_in, 0, n_out)), bias)


class Dropout(nn.Module):
    """Dropout: zeros units at random and scales up the rest.

    On a CPU, torch draws one random number per unit, which takes longer than the preceding layer. Here each 64-bit
    random number decides for four units, with 16 bits each.

    Args:
        probability: dropout probability of a unit; rounded to a multiple of 2^-16 on a CPU.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return hashed_dropout(x, self.probability) if _fuses(x) else functional.dropout(x, self.probability)
        n_dropped = round(self.probability * 2**16)
        factor = torch.tensor(2**16 / (2**16 - n_dropped), dtype=x.dtype)
        random_bits = torch.empty(-(-x.numel() // _DRAWS_PER_INT64), dtype=torch.int64).random_(-(2**63), None)
        # ones and zeros as integers: converting bools to numbers takes several times as long
        mask = random_bits.view(torch.int16)[: x.numel()].view(x.shape).ge_(n_dropped - 2**15)
        if x.element_size() == mask.element_size():  # the factor's bit pattern times 1 or 0
            return x * mask.mul_(factor.view(mask.dtype)).view(x.dtype)
        return x * mask.to(x.dtype).mul_(factor)

    def extra_repr(self) -> str:
        """Text for print(model)."""
        return f"p={self.probability}"


def _fuses(x: Tensor) -> bool:
    """Whether compiled kernels fuse elementwise functions of x and its places, which are numbers of 32 bits."""
    return torch.compiler.is_compiling() and x.numel() < 2**31


def hashed_dropout(x: Tensor, probability: float) -> Tensor:
    """Dropout whose random bits are a hash of a unit's place and of one random number.

    Fused kernels compute it in a few operations, and again in the backward pass, which then reads no mask. Torch's own
    takes ten times as many, and stores the mask. Source of the hash: `lowbias32` of Wellons, "Hash prospector", 2018.
    """
    seed = torch.randint(-(2**31), 2**31 - 1, (1,), dtype=torch.int32, device=x.device)
    place = torch.arange(x.numel(), dtype=torch.int32, device=x.device).view(x.shape)
    drawn = (_mixed(place ^ _mixed(seed)) >> 8) & 0xFFFFFF
    return torch.where(drawn < round(probability * 2**24), 0.0, x / (1 - probability)).to(x.dtype)


def _mixed(x: Tensor) -> Tensor:
    """Mixes the bits of int32 numbers."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def slice_dropout(x: Tensor, n_axes: int, probability: float) -> Tensor:
    """Zeros whole slices of x, indexed by its first `n_axes` axes, at random and scales up the rest."""
    if probability == 0:
        return x
    mask = x.new_empty(*x.shape[:n_axes], *[1] * (x.ndim - n_axes)).bernoulli_(1 - probability)
    return x * mask.div_(1 - probability)


class StochasticDepth(nn.Module):
    """Stochastic depth: drops a residual branch for random rows and scales it up for the rest.

    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016.
    NOTE[DIFF]: scaled in training instead of in testing.

    Args:
        probability: probability that a row skips the branch.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """[B, ...] to [B, ...]."""
        return slice_dropout(branch, 1, self.probability) if self.training else branch

    def extra_repr(self) -> str:
        """Text for print(model)."""
        return f"p={self.probability}"


class TokenDropout(nn.Module):
    """Zeros whole tokens at random and scales up the rest.

    Args:
        probability: dropout probability of a token.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_BFD: Tensor) -> Tensor:
        """[B, F, D] to [B, F, D]."""
        return slice_dropout(x_BFD, 2, self.probability) if self.training else x_BFD

    def extra_repr(self) -> str:
        """Text for print(model)."""
        return f"p={self.probability}"


def has_dropout(model: nn.Module) -> bool:
    """Whether a module of a model drops something at random in training, so that two passes differ."""
    kinds = Dropout | StochasticDepth | TokenDropout
    probabilities = [module.probability for module in model.modules() if isinstance(module, kinds)]
    return any(probabilities) or any(module.p for module in model.modules() if isinstance(module, _DropoutNd))


def checkpointed(function: Callable[..., Tensor], *inputs: Any, is_on: bool = True) -> Tensor:
    """Gradient checkpointing: calls function(*inputs) and recomputes its activations in the backward pass.

    Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174.
    """
    if not is_on or not torch.is_grad_enabled():
        return function(*inputs)
    return cast(Tensor, checkpoint(function, *inputs, use_reentrant=False))


def mean_logit(logits_KB: Tensor) -> Tensor:
    """[K, B] logits to the [B] logits of the mean of their K probabilities; finite for any finite logits."""
    log_mean_B = functional.logsigmoid(logits_KB).logsumexp(0)
    log_rest_B = functional.logsigmoid(-logits_KB).logsumexp(0)
    return log_mean_B - log_rest_B


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization over the rows of one call: a process's share of a batch, or a micro-batch of it. A single row
    is normalized by the running statistics. Source: Ioffe and Szegedy, ICML 2015.
    """

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [B, D]."""
        if self.training and len(x_BD) < 2:
            parameters = (self.running_mean, self.running_var, self.weight, self.bias)
            return functional.batch_norm(x_BD, *parameters, training=False, eps=self.eps)
        return super().forward(x_BD)


Activation = Literal["relu", "prelu", "dice"]


def build_activation(name: Activation, width: int) -> nn.Module:
    """Builds an activation for [B, width] inputs."""
    match name:
        case "relu":
            return nn.ReLU()
        case "prelu":
            return nn.PReLU(width)
        case "dice":
            return Dice(width)


class MLP(nn.Module):
    """Layers of linear -> optional batch normalization -> activation -> dropout.

    Args:
        d_in: input width.
        hidden_dims: output width of each layer.
        dropout: dropout probability.
        batch_norm: whether to use batch normalization.
        gradient_checkpointing: whether to store only each layer's input for the backward pass.
        activation: activation of every layer.
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
            normalization = [BatchNorm(d_out)] if batch_norm else []
            nonlinearity = build_activation(activation, d_out)
            self.layers.append(nn.Sequential(Linear(d, d_out), *normalization, nonlinearity, Dropout(dropout)))
        self.d_out = hidden_dims[-1] if hidden_dims else d_in
        self._checkpointing = gradient_checkpointing

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, d_in] to [B, d_out]."""
        for layer in self.layers:
            x_BD = checkpointed(layer, x_BD, is_on=self._checkpointing)
        return x_BD


class LogitHead(nn.Module):
    """Linear layer from the last hidden layer to one logit, always in float32.

    bfloat16 has 8 significant bits: tied logits would lower the ranking metrics.

    Args:
        d_in: width of each input.
    """

    def __init__(self, *d_in: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(d_in), 1)
        self.d_in = d_in

    def forward(self, *inputs_BD: Tensor) -> Tensor:
        """[B, d_in[0]], [B, d_in[1]], ... to [B]."""
        return self.logits(self.terms_of(*inputs_BD))

    def terms_of(self, *inputs_BD: Tensor) -> Tensor:
        """[B, d_in[0]], [B, d_in[1]], ... to [K, B]: the term of each of the K inputs in the logit."""
        with torch.autocast(inputs_BD[0].device.type, enabled=False):
            weights = self.linear.weight[0].split(self.d_in)
            terms = [
                x.float() @ functional.pad(w, (0, x.shape[1] - len(w))) for x, w in zip(inputs_BD, weights, strict=True)
            ]
            return torch.stack(terms)

    def logits(self, terms_KB: Tensor) -> Tensor:
        """[K, B] terms to [B] logits, their sum and the bias."""
        return terms_KB.sum(0) + self.linear.bias

    def branch_logits(self, terms_KB: Tensor) -> Tensor:
        """[K, B] terms to the [K, B] logits of K branches, whose mean is the logit: K times a term, and the bias."""
        return len(terms_KB) * terms_KB + self.linear.bias
