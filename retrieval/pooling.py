"""Pools a user's sequence of events to one vector, or encodes it to one vector per step.

Shapes: B rows of a batch, T events of all rows, S steps of all rows (a start and the events), D embedding width.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recsys.config import StrictModel
from recsys.nn.jagged import PaddedRows, equal_weights, row_of_event, softmax_by_row, sum_by_row
from recsys.nn.layers import Dropout
from retrieval.sequential.layers import Positions

Pooling = Literal["mean", "attention", "last", "causal", "sasrec", "ligr", "hstu"]
SEQUENTIAL: tuple[Pooling, ...] = ("causal", "sasrec", "ligr", "hstu")
"""Poolings that encode each step of a history, and train on all of them."""


def pool_sequence(event_TD: Tensor, length_B: Tensor, pooling: Pooling, query_D: Tensor | None) -> Tensor:
    """Pools the [T, D] events of each row to [B, D]; zeros for a row without events.

    Args:
        event_TD: events, row after row.
        length_B: number of events of each row.
        pooling: attention: the mean weighted by softmax(query . event); last: the most recent event, the last one of
            the row; otherwise the mean.
        query_D: the query of attention, None for other poolings.
    """
    n_rows, n_events = len(length_B), len(event_TD)
    length_B = length_B.long()
    if pooling == "last":
        padded = torch.cat([event_TD, event_TD.new_zeros(1, event_TD.shape[1])])
        return padded.index_select(0, torch.where(length_B > 0, length_B.cumsum(0) - 1, n_events))
    row_T = row_of_event(length_B, n_events)
    if query_D is None:
        weight_T = equal_weights(length_B, event_TD.dtype).index_select(0, row_T)
    else:
        weight_T = softmax_by_row(event_TD.float() @ query_D.float(), row_T, n_rows).to(event_TD.dtype)
    return sum_by_row(weight_T.unsqueeze(1) * event_TD, row_T, n_rows)


class CausalConfig(StrictModel):
    """Hyperparameters of `CausalEncoder`."""

    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=2, ge=1)
    ffn_factor: int = Field(default=2, ge=1)
    """Width of the feed-forward layers, as a multiple of the embedding width."""
    dropout: float = Field(default=0.2, ge=0, lt=1)


class CausalEncoder(nn.Module):
    """Encodes each step of a history from the steps up to it, by a Transformer with a causal mask.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018.
    NOTE[DIFF]: pre-norm layers with a GELU feed-forward layer without gate; a learned start step precedes the first
    event, so that an empty history has a vector; positions count from the start of the truncated history.

    Args:
        config: hyperparameters.
        dim: D, embedding width.
        max_length: maximum number of events of a history.
    """

    def __init__(self, config: CausalConfig, dim: int, max_length: int) -> None:
        super().__init__()
        if dim % config.n_heads:
            raise ValueError(
                f"model.embedding_dim must be divisible by model.causal.n_heads, got {dim} and {config.n_heads}"
            )
        self.position = Positions(max_length + 1, dim)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, dim) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, event_TD: Tensor, length_B: Tensor) -> Tensor:
        """Returns the [S, D] vectors of the steps of [T, D] events, S = T + B: in each row a start, then the events."""
        length_B = length_B.long() + 1
        padded = PaddedRows(length_B)
        is_step = padded.position > 0
        x_SD = self.position(padded.position)
        x_SD = x_SD.index_add(0, is_step.nonzero().squeeze(1), event_TD.to(x_SD.dtype))
        x_SD = self.dropout(x_SD)
        for layer in self.layers:
            x_SD = layer(x_SD, padded)
        return self.norm(x_SD)

    def last(self, event_TD: Tensor, length_B: Tensor) -> Tensor:
        """Returns the [B, D] vectors of the rows' last steps."""
        return self(event_TD, length_B).index_select(0, (length_B.long() + 1).cumsum(0) - 1)


class _Layer(nn.Module):
    """A pre-norm Transformer layer: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: CausalConfig, dim: int) -> None:
        super().__init__()
        self.n_heads, self.attention_dropout = config.n_heads, config.dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ffn_in, self.ffn_out = nn.Linear(dim, config.ffn_factor * dim), nn.Linear(config.ffn_factor * dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_SD: Tensor, padded: PaddedRows) -> Tensor:
        """[S, D] to [S, D]: linear maps use jagged steps, attention uses padded rows."""
        qkv = padded.pad(self.qkv(self.norm_1(x_SD))).unflatten(2, (3, self.n_heads, -1))
        if qkv.device.type == "cpu":  # the CPU kernel takes twice as long for 16-bit gradients
            qkv = qkv.float()
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_SD = x_SD + self.dropout(self.out(padded.unpad(y.transpose(1, 2).flatten(2))))
        y = functional.gelu(self.ffn_in(self.norm_2(x_SD)))
        return x_SD + self.dropout(self.ffn_out(y))
