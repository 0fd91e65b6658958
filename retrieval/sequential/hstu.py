"""The layer of HSTU, whose attention weights are not normalized over the steps.

Shapes: S steps of all rows, D width, H heads, P steps of the longest row.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.nn.layers import Dropout
from retrieval.sequential.attention import LengthGroups
from retrieval.sequential.config import SequentialConfig


class HSTULayer(nn.Module):
    """u, v, q, k = silu(W1 norm(x)), a = silu(q k + bias) v / P, x = x + W2 (norm(a) * u).

    Source: Zhai et al., "Actions speak louder than words: trillion-parameter sequential transducers for generative
    recommendations", ICML 2024, equations 1 to 3.
    NOTE[DIFF]: the bias depends on the number of steps between query and key, not on the time between them, which
    batches do not contain.

    Args:
        config: hyperparameters; `ffn_factor` has no effect, as the layer has no feed-forward part.
        dim: D.
        n_positions: P.
    """

    def __init__(self, config: SequentialConfig, dim: int, n_positions: int) -> None:
        super().__init__()
        self.norm, self.attended_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.uvqk, self.out = nn.Linear(dim, 4 * dim), nn.Linear(dim, dim)
        self.bias = _Bias(config.n_heads, n_positions)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_SD: Tensor, groups: LengthGroups, is_last_only: bool = False) -> Tensor:
        """[S, D] to [S, D], or to the [B, D] vectors of the rows' last steps."""
        u_SD, v_SD, q_SD, k_SD = functional.silu(self.uvqk(self.norm(x_SD))).chunk(4, dim=1)
        attended_SD = groups.attend_pointwise(q_SD, k_SD, v_SD, self.bias.weight)
        if is_last_only:
            attended_SD, u_SD, x_SD = (x.index_select(0, groups.last_B) for x in (attended_SD, u_SD, x_SD))
        return x_SD + self.out(self.dropout(self.attended_norm(attended_SD) * u_SD))


class _Bias(nn.Module):
    """[H, P] learned biases."""

    no_decay = True

    def __init__(self, n_heads: int, n_positions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_heads, n_positions) * 0.02)
