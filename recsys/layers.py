"""Layers that two or more models share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear -> ReLU -> dropout, layer after layer.

    Args:
        d_in: width of the input.
        hidden_dims: width of each layer; the last is the output's.
        dropout: probability of a unit to be dropped.
    """

    def __init__(self, d_in: int, hidden_dims: Sequence[int], dropout: float) -> None:
        layers: list[nn.Module] = []
        for d_out in hidden_dims:
            layers += [nn.Linear(d_in, d_out), nn.ReLU(), nn.Dropout(dropout)]
            d_in = d_out
        super().__init__(*layers)
        self.d_out = d_in


class LogitHead(nn.Linear):
    """The last linear map to one logit, in float32 whatever the precision around it.

    bfloat16 keeps 8 bits: logits would tie and ranking metrics fall.
    """

    def __init__(self, d_in: int) -> None:
        super().__init__(d_in, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, d_in] to [B]."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float()).squeeze(-1)
