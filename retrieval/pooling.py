"""How a user's sequence of events becomes one vector, or one vector for each step of it."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recsys.config import StrictModel
from recsys.nn.layers import Dropout


def pool_sequence(
    event_TD: Tensor, length_B: Tensor, pooling: Literal["mean", "attention", "last", "causal"], query_D: Tensor | None
) -> Tensor:
    """[T, D] events, row after row, to [B, D]; zeros where a row has none.

    Args:
        event_TD: events.
        length_B: events of each row.
        pooling: attention: the mean by softmax(query . event); last: the most recent event, which stands at the end;
            else the mean.
        query_D: of attention.
    """
    n_rows, n_events = len(length_B), len(event_TD)
    length_B = length_B.long()
    if pooling == "last":
        padded = torch.cat([event_TD, event_TD.new_zeros(1, event_TD.shape[1])])
        return padded.index_select(0, torch.where(length_B > 0, length_B.cumsum(0) - 1, n_events))
    rows = torch.arange(n_rows, device=length_B.device)
    row_T = torch.repeat_interleave(rows, length_B, output_size=n_events)
    if query_D is None:
        weight_T = length_B.clamp(min=1).to(event_TD.dtype).reciprocal().index_select(0, row_T)
    else:
        score_T = event_TD.float() @ query_D.float()
        highest_B = score_T.new_full((n_rows,), -torch.inf).scatter_reduce(0, row_T, score_T.detach(), "amax")
        exp_T = (score_T - highest_B.index_select(0, row_T)).exp()
        sum_B = score_T.new_zeros(n_rows).index_add(0, row_T, exp_T)
        weight_T = (exp_T / sum_B.index_select(0, row_T)).to(event_TD.dtype)
    return event_TD.new_zeros(n_rows, event_TD.shape[1]).index_add(0, row_T, weight_T.unsqueeze(1) * event_TD)


class CausalConfig(StrictModel):
    """Sizes of self-attention over a history."""

    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=2, ge=1)
    ffn_factor: int = Field(default=2, ge=1)
    """Width of the feed-forward layers, in embedding widths."""
    dropout: float = Field(default=0.2, ge=0, lt=1)


class CausalEncoder(nn.Module):
    """One vector for each step of a history, from the steps up to it: pre-norm self-attention with a causal mask.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018.
    NOTE[DIFF]: pre-norm with a gated-free GELU feed-forward layer; a learned start stands before the first step, so
    that an empty history has a vector too; positions count from the start of the history that was kept.

    Args:
        config: sizes.
        dim: D.
        max_length: steps of the longest history.
    """

    has_weight_decay = True

    def __init__(self, config: CausalConfig, dim: int, max_length: int) -> None:
        super().__init__()
        if dim % config.n_heads:
            raise ValueError(
                f"model.embedding_dim must be divisible by model.causal.n_heads, got {dim} and {config.n_heads}"
            )
        self.position = _Positions(max_length + 1, dim)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, dim) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, event_TD: Tensor, length_B: Tensor) -> Tensor:
        """[T, D] events of rows of length_B to [T + B, D]: in each row the vector of the start, then those of steps."""
        length_B = length_B.long() + 1
        places = _Places(length_B)
        is_step = places.step > 0
        x_SD = self.position(places.step)
        x_SD = x_SD.index_add(0, is_step.nonzero().squeeze(1), event_TD.to(x_SD.dtype))
        x_SD = self.dropout(x_SD)
        for layer in self.layers:
            x_SD = layer(x_SD, places)
        return self.norm(x_SD)


class _Places:
    """Where the steps of jagged rows stand in a padded [B, L] array."""

    def __init__(self, length_B: Tensor) -> None:
        self.n_rows, self.longest = len(length_B), int(length_B.max()) if len(length_B) else 0
        n_steps = int(length_B.sum())
        rows = torch.arange(self.n_rows, device=length_B.device)
        row_S = torch.repeat_interleave(rows, length_B, output_size=n_steps)
        start_B = length_B.cumsum(0) - length_B
        self.step = torch.arange(n_steps, device=length_B.device) - start_B.index_select(0, row_S)
        self.flat = row_S * self.longest + self.step

    def pad(self, x_SD: Tensor) -> Tensor:
        """[S, D] to [B, L, D]."""
        out = x_SD.new_zeros(self.n_rows * self.longest, x_SD.shape[1])
        return out.index_copy(0, self.flat, x_SD).view(self.n_rows, self.longest, -1)

    def unpad(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [S, D]."""
        return x_BLD.reshape(self.n_rows * self.longest, -1).index_select(0, self.flat)


class _Positions(nn.Module):
    """A vector for each place in a history."""

    has_weight_decay = False

    def __init__(self, n_places: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_places, dim) * 0.02)

    def forward(self, place_S: Tensor) -> Tensor:
        """[S] to [S, D]."""
        return self.weight.index_select(0, place_S)


class _Layer(nn.Module):
    def __init__(self, config: CausalConfig, dim: int) -> None:
        super().__init__()
        self.n_heads, self.attention_dropout = config.n_heads, config.dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ffn_in, self.ffn_out = nn.Linear(dim, config.ffn_factor * dim), nn.Linear(config.ffn_factor * dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_SD: Tensor, places: _Places) -> Tensor:
        """[S, D] to the same: linear maps work on the steps alone, attention on padded rows."""
        qkv = places.pad(self.qkv(self.norm_1(x_SD))).unflatten(2, (3, self.n_heads, -1))
        if qkv.device.type == "cpu":  # whose kernel takes twice as long for the gradients of 16-bit numbers
            qkv = qkv.float()
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_SD = x_SD + self.dropout(self.out(places.unpad(y.transpose(1, 2).flatten(2))))
        y = functional.gelu(self.ffn_in(self.norm_2(x_SD)))
        return x_SD + self.dropout(self.ffn_out(y))
