"""Layers of sequential encoders with softmax attention.

Shapes: S steps of all rows, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.nn.layers import Dropout
from retrieval.sequential.attention import LengthGroups
from retrieval.sequential.config import SequentialConfig


class SASRecLayer(nn.Module):
    """q = norm(x), x = q + attention(q, x, x), y = norm(x), x = y + W2 relu(W1 y).

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, in the form of the authors' code:
    queries are normalized, keys and values are not.
    NOTE[DIFF]: no dropout of attention weights.
    """

    def __init__(self, config: SequentialConfig, dim: int) -> None:
        super().__init__()
        self._n_heads, d_hidden = config.n_heads, config.ffn_factor * dim
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.ffn_in, self.ffn_out = nn.Linear(dim, d_hidden), nn.Linear(d_hidden, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_SD: Tensor, groups: LengthGroups, is_last_only: bool = False) -> Tensor:
        """[S, D] to [S, D], or to the [B, D] vectors of the rows' last steps."""
        k_SD, v_SD = self.key_value(x_SD).chunk(2, dim=1)
        q_SD = self.norm_1(x_SD.index_select(0, groups.last_B) if is_last_only else x_SD)
        attend = groups.attend_last if is_last_only else groups.attend
        attended_SD = attend(self.query(q_SD), k_SD, v_SD, self._n_heads)
        y_SD = self.norm_2(q_SD + self.dropout(self.out(attended_SD)))
        hidden = self.dropout(functional.relu(self.ffn_in(y_SD)))
        return y_SD + self.dropout(self.ffn_out(hidden))


class LiGRLayer(nn.Module):
    """x = x + sigmoid(G1 x) * attention(norm(x)), then x = x + sigmoid(G2 x) * W3 (silu(W1 y) * W2 y), y = norm(x).

    Source: Borisyuk et al., "From features to transformers: redefining ranking for scalable impact" (LiGR), arXiv
    2502.03417; with the gated feed-forward layer of Tikhonovich et al., "eSASRec", RecSys 2025.
    NOTE[DIFF]: no dropout of attention weights.
    """

    def __init__(self, config: SequentialConfig, dim: int) -> None:
        super().__init__()
        self._n_heads, d_hidden = config.n_heads, config.ffn_factor * dim
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ffn_in, self.ffn_out = nn.Linear(dim, 2 * d_hidden), nn.Linear(d_hidden, dim)
        self.gate_1, self.gate_2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_SD: Tensor, groups: LengthGroups, is_last_only: bool = False) -> Tensor:
        """[S, D] to [S, D], or to the [B, D] vectors of the rows' last steps."""
        q_SD, k_SD, v_SD = self.qkv(self.norm_1(x_SD)).chunk(3, dim=1)
        if is_last_only:
            q_SD, x_SD = q_SD.index_select(0, groups.last_B), x_SD.index_select(0, groups.last_B)
        attend = groups.attend_last if is_last_only else groups.attend
        attended_SD = attend(q_SD, k_SD, v_SD, self._n_heads)
        x_SD = x_SD + self.gate_1(x_SD).sigmoid() * self.dropout(self.out(attended_SD))
        gate, value = self.ffn_in(self.norm_2(x_SD)).chunk(2, dim=1)
        return x_SD + self.gate_2(x_SD).sigmoid() * self.dropout(self.ffn_out(functional.silu(gate) * value))


class Positions(nn.Module):
    """Learned position embeddings."""

    no_decay = True

    def __init__(self, n_positions: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_positions, dim) * 0.02)

    def forward(self, position_S: Tensor) -> Tensor:
        """Returns the [S, D] embeddings of [S] positions."""
        return self.weight.index_select(0, position_S)
