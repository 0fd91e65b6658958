"""Embeddings of numbers against the formulas by NumPy, and the quantiles that their bins stand for."""

import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.nn.numeric import (
    LinearEmbeddings,
    PeriodicEmbeddings,
    PiecewiseLinearEmbeddings,
    QuantizedEmbeddings,
    build_numeric_embeddings,
)


def test_linear_embeddings_by_hand() -> None:
    embeddings = LinearEmbeddings(2, 2)
    with torch.no_grad():
        embeddings.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
        embeddings.bias.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    assert embeddings(torch.tensor([[2.0, -1.0]])).tolist() == [[[2.5, 4.0], [-3.0, 2.0]]]


def test_periodic_embeddings_by_numpy() -> None:
    torch.manual_seed(0)
    embeddings, x = PeriodicEmbeddings(3, 4, 2, 1.0), torch.randn(5, 3)
    frequency, weight, bias = (p.detach().numpy() for p in (embeddings.frequency, embeddings.weight, embeddings.bias))
    found = embeddings(x).detach().numpy()
    for row in range(5):
        for j in range(3):
            angle = 2 * np.pi * frequency[j] * x[row, j].item()
            expected = np.concatenate([np.sin(angle), np.cos(angle)]) @ weight[j] + bias[j]
            assert np.allclose(found[row, j], expected, atol=1e-5)


@pytest.mark.parametrize("n_bins", [2, 3, 16])
def test_piecewise_linear_embeddings_by_numpy(n_bins: int) -> None:
    torch.manual_seed(0)
    embeddings = PiecewiseLinearEmbeddings(2, 3, n_bins)
    x = torch.tensor([[-4.0, -3.0], [-1.0, 0.0], [0.01, 1.3], [3.0, 5.0]])
    edge, weight, bias = (t.detach().numpy() for t in (embeddings.edge, embeddings.weight, embeddings.bias))
    found = embeddings(x).detach().numpy()
    for row in range(len(x)):
        for j in range(2):
            value, shares = x[row, j].item(), []
            for t in range(n_bins):
                if value < edge[t] and t > 0:
                    share = 0.0
                elif value >= edge[t + 1] and t < n_bins - 1:
                    share = 1.0
                else:
                    share = (value - edge[t]) / (edge[t + 1] - edge[t])
                shares.append(share)
            assert np.allclose(found[row, j], np.array(shares) @ weight[j] + bias[j], atol=1e-5), value


def test_quantized_embeddings_are_the_vector_of_the_bin() -> None:
    torch.manual_seed(0)
    embeddings = QuantizedEmbeddings(2, 3, 4)
    x = torch.tensor([[-9.0, 0.0], [-0.5, 0.7], [float(embeddings.edge[1]), 9.0]])
    bins = [[0, 2], [1, 3], [1, 3]]  # quartiles of the normal distribution: -.674, 0, .674
    expected = embeddings.weight[torch.arange(2), torch.tensor(bins)] + embeddings.bias
    assert torch.allclose(embeddings(x), expected)


def test_bins_of_four_are_quartiles_of_the_normal_distribution() -> None:
    assert PiecewiseLinearEmbeddings(1, 1, 4).edge.tolist() == pytest.approx([-3, -0.67449, 0, 0.67449, 3], abs=1e-5)


def test_bins_have_equal_shares_of_the_fitting_rows(small: PreparedDataset) -> None:
    split = small.split("full")
    batch = split.batch(np.arange(2000), ())
    embeddings = PiecewiseLinearEmbeddings(len(split.schema.dense), 2)
    for name in ("x_1", "x_2"):
        index = split.schema.dense.index(name)
        values = batch.dense[:, index][batch.dense[:, index] != 0]  # nulls are zeros
        count = torch.bincount(torch.bucketize(values, embeddings.edge[1:-1]), minlength=16)
        assert count.float().div(len(values)).tolist() == pytest.approx([1 / 16] * 16, abs=0.01), name


def test_none_and_no_columns_are_the_numbers_themselves() -> None:
    x = torch.randn(4, 3)
    assert build_numeric_embeddings("none", 3, 8)(x) is x
    assert isinstance(build_numeric_embeddings("periodic", 0, 8), nn.Identity)
    for kind in ("linear", "periodic", "piecewise_linear", "quantized"):
        assert build_numeric_embeddings(kind, 3, 8)(x).shape == (4, 3, 8)  # type: ignore[arg-type]
        assert build_numeric_embeddings(kind, 3, 8)(x[:0]).shape == (0, 3, 8)  # type: ignore[arg-type]


def test_constants_are_not_part_of_a_checkpoint() -> None:
    assert PiecewiseLinearEmbeddings(2, 3).state_dict().keys() == {"weight", "bias"}
