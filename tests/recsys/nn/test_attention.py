"""Attention without a kernel; `tests/gpu/test_kernels.py` has the kernels."""

import pytest
import torch

from recsys.nn.attention import attend
from tests.helpers.attention import heads_attend

N_HEADS, WIDTH = 2, 8


@pytest.mark.parametrize("n_queries", [None, 1, 5])
def test_attention_of_each_head(n_queries: int | None) -> None:
    query = None if n_queries is None else torch.randn(3, n_queries, WIDTH)
    packed = torch.randn(3, 7, (3 if query is None else 2) * WIDTH)
    found, expected = attend(query, packed, N_HEADS, 0.0), heads_attend(query, packed, N_HEADS)
    assert torch.allclose(found.double(), expected, atol=1e-6)


def test_dropout_of_weights() -> None:
    """Values of one: a row's sum of weights is 1 without dropout, and has a mean of 1 with it."""
    torch.manual_seed(0)
    packed = torch.cat([torch.randn(50, 20, 2 * WIDTH), torch.ones(50, 20, WIDTH)], dim=2)
    kept = attend(None, packed, N_HEADS, 0.3)
    assert kept.std() > 0.05
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
