"""Encodes each step of a history from the steps up to it.

Shapes: B rows of a batch, T events of all rows, S steps of all rows (a start and the events), D embedding width.
"""

from torch import Tensor, nn

from recsys.nn.layers import Dropout
from retrieval.sequential.attention import LengthGroups
from retrieval.sequential.config import LayerKind, SequentialConfig
from retrieval.sequential.hstu import HSTULayer
from retrieval.sequential.layers import LiGRLayer, Positions, SASRecLayer


class SequentialEncoder(nn.Module):
    """Embeds the steps' items and positions, and applies causal layers and a normalization.

    A learned start step precedes the first event, so that an empty history has a vector. Positions count from the start
    of the truncated history.

    Args:
        kind: the layers.
        config: hyperparameters.
        dim: D, embedding width.
        max_length: maximum number of events of a history.

    Raises:
        ValueError: when the heads do not divide the width.
    """

    def __init__(self, kind: LayerKind, config: SequentialConfig, dim: int, max_length: int) -> None:
        super().__init__()
        if dim % config.n_heads:
            raise ValueError(
                f"model.embedding_dim must be divisible by model.sequential.n_heads, got {dim} and {config.n_heads}"
            )
        self.position = Positions(max_length + 1, dim)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(_layer(kind, config, dim, max_length + 1) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, event_TD: Tensor, length_B: Tensor) -> Tensor:
        """Returns the [S, D] vectors of the steps of [T, D] events, S = T + B: in each row a start, then the events."""
        return self._encode(event_TD, length_B, is_last_only=False)

    def last(self, event_TD: Tensor, length_B: Tensor) -> Tensor:
        """Returns the [B, D] vectors of the rows' last steps, for which the last layer computes no other step."""
        return self._encode(event_TD, length_B, is_last_only=True)

    def _encode(self, event_TD: Tensor, length_B: Tensor, is_last_only: bool) -> Tensor:
        groups = LengthGroups(length_B.long() + 1)
        is_event = groups.position > 0
        x_SD = self.position(groups.position)
        x_SD = x_SD.index_add(0, is_event.nonzero().squeeze(1), event_TD.to(x_SD.dtype))
        x_SD = self.dropout(x_SD)
        for number, layer in enumerate(self.layers, start=1):
            x_SD = layer(x_SD, groups, is_last_only and number == len(self.layers))
        return self.norm(x_SD)


def _layer(kind: LayerKind, config: SequentialConfig, dim: int, n_positions: int) -> nn.Module:
    match kind:
        case "sasrec":
            return SASRecLayer(config, dim)
        case "ligr":
            return LiGRLayer(config, dim)
        case "hstu":
            return HSTULayer(config, dim, n_positions)
