"""Embeddings of numeric columns: a vector for each number, which models then treat like that of an id.

Source: Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS 2022
(arXiv 2203.05556).

Shapes: B rows of a batch, N numeric columns, C frequencies or bins of a column, D width of an embedding.
"""

from typing import Literal

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from recsys.data.transforms import MAX_NORMAL

NumericEmbeddings = Literal["none", "linear", "periodic", "piecewise_linear", "quantized"]
N_FREQUENCIES, FREQUENCY_STD, N_BINS = 16, 0.1, 16


class LinearEmbeddings(nn.Module):
    """Embeds each number x_j as x_j w_j + b_j.

    Source: Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021 (arXiv 2106.11959),
    section 3.3.

    Args:
        n_features: N, number of columns.
        dim: D, width of an embedding.
    """

    no_decay = True

    def __init__(self, n_features: int, dim: int) -> None:
        super().__init__()
        bound = dim**-0.5
        self.weight = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        """Returns the [B, N, D] embeddings of [B, N] numbers."""
        return torch.addcmul(self.bias, x_BN.unsqueeze(2), self.weight)


class PeriodicEmbeddings(nn.Module):
    """Embeds each number x_j as W_j [sin(2 pi c_j x_j), cos(2 pi c_j x_j)] + b_j with learned frequencies c_j.

    Source: section 3.3.

    Args:
        n_features: N, number of columns.
        dim: D, width of an embedding.
        n_frequencies: C, frequencies of each column.
        std: standard deviation of the initial frequencies.
    """

    no_decay = True

    def __init__(
        self, n_features: int, dim: int, n_frequencies: int = N_FREQUENCIES, std: float = FREQUENCY_STD
    ) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(n_features, n_frequencies) * std)
        bound = (2 * n_frequencies) ** -0.5
        self.weight = nn.Parameter(torch.empty(n_features, 2 * n_frequencies, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        """Returns the [B, N, D] embeddings of [B, N] numbers."""
        angle_BNC = 2 * torch.pi * x_BN.unsqueeze(2) * self.frequency
        waves_NBC = torch.cat([angle_BNC.sin(), angle_BNC.cos()], dim=2).transpose(0, 1)  # sines, then cosines: 2 C
        return torch.bmm(waves_NBC, self.weight).transpose(0, 1) + self.bias


class PiecewiseLinearEmbeddings(nn.Module):
    """Embeds each number as W_j e(x_j) + b_j, where e has how far x_j is through each bin.

    e_t(x) = (x - edge_t-1) / (edge_t - edge_t-1), at least 0 except in the first bin and at most 1 except in the last.

    Source: section 3.2, equation 1.

    The bins have equal probability under a standard normal distribution, up to the bound of `quantile_normal`, the
    transform to normal scores: then they are those between quantiles of the fitting rows. Numbers of another scale are
    better transformed to it.

    Args:
        n_features: N, number of columns.
        dim: D, width of an embedding.
        n_bins: C, bins of each column, at least 2.
    """

    no_decay = True
    edge: Tensor
    """[C + 1] edges of the bins, the same for all columns."""

    def __init__(self, n_features: int, dim: int, n_bins: int = N_BINS) -> None:
        super().__init__()
        inner = ndtri(np.arange(1, n_bins) / n_bins)
        edges = torch.tensor([-MAX_NORMAL, *inner, MAX_NORMAL], dtype=torch.float32)
        self.register_buffer("edge", edges, persistent=False)
        bound = n_bins**-0.5
        self.weight = nn.Parameter(torch.empty(n_features, n_bins, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        """Returns the [B, N, D] embeddings of [B, N] numbers."""
        return torch.bmm(self.encode(x_BN).transpose(0, 1), self.weight).transpose(0, 1) + self.bias

    def encode(self, x_BN: Tensor) -> Tensor:
        """Returns the [B, N, C] shares e(x) of the bins."""
        share_BNC = (x_BN.unsqueeze(2) - self.edge[:-1]) / self.edge.diff()
        first, inner, last = share_BNC[:, :, :1], share_BNC[:, :, 1:-1], share_BNC[:, :, -1:]
        return torch.cat([first.clamp(max=1), inner.clamp(0, 1), last.clamp(min=0)], dim=2)


class QuantizedEmbeddings(PiecewiseLinearEmbeddings):
    """Embeds each number as a vector of its bin, as if the number of the bin were an id.

    The bins are those of `PiecewiseLinearEmbeddings`; a number on an edge is in the upper one.
    """

    def encode(self, x_BN: Tensor) -> Tensor:
        """Returns [B, N, C]: 1 for the bin of each number, 0 for the others."""
        above = (x_BN.unsqueeze(2) >= self.edge[1:-1]).to(x_BN.dtype)
        one_BN1 = torch.ones_like(above[:, :, :1])
        return torch.cat([one_BN1, above], dim=2) - torch.cat([above, torch.zeros_like(one_BN1)], dim=2)


def build_numeric_embeddings(kind: NumericEmbeddings, n_features: int, dim: int) -> nn.Module:
    """Builds the map from [B, N] numbers to [B, N, D] embeddings; that to the numbers themselves for `none`."""
    if n_features == 0:
        return nn.Identity()
    match kind:
        case "none":
            return nn.Identity()
        case "linear":
            return LinearEmbeddings(n_features, dim)
        case "periodic":
            return PeriodicEmbeddings(n_features, dim)
        case "piecewise_linear":
            return PiecewiseLinearEmbeddings(n_features, dim)
        case "quantized":
            return QuantizedEmbeddings(n_features, dim)
