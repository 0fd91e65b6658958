"""Pooling of jagged sequences against a loop over rows."""

import numpy as np
import pytest
import torch

from retrieval.pooling import CausalConfig, CausalEncoder, pool_sequence

LENGTHS = torch.tensor([2, 0, 3])
EVENTS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_mean_last_and_attention_by_a_loop() -> None:
    query = torch.tensor([1.0, -2.0, 0.5, 0.0])
    mean, last = pool_sequence(EVENTS, LENGTHS, "mean", None), pool_sequence(EVENTS, LENGTHS, "last", None)
    attended = pool_sequence(EVENTS, LENGTHS, "attention", query)
    for row, (start, stop) in enumerate([(0, 2), (2, 2), (2, 5)]):
        mine = EVENTS[start:stop]
        if len(mine) == 0:
            assert mean[row].abs().max() == last[row].abs().max() == attended[row].abs().max() == 0
            continue
        torch.testing.assert_close(mean[row], mine.mean(dim=0))
        torch.testing.assert_close(last[row], mine[-1])
        torch.testing.assert_close(attended[row], (mine @ query).softmax(dim=0) @ mine)


@pytest.mark.parametrize("pooling", ["mean", "attention", "last"])
def test_no_rows_and_no_events(pooling: str) -> None:
    query = torch.zeros(4) if pooling == "attention" else None
    empty = EVENTS[:0]
    assert pool_sequence(empty, LENGTHS[:0], pooling, query).shape == (0, 4)  # type: ignore[arg-type]
    assert pool_sequence(empty, torch.zeros(2, dtype=torch.int64), pooling, query).tolist() == [[0.0] * 4] * 2  # type: ignore[arg-type]


def test_encoding_of_a_row_does_not_depend_on_other_rows() -> None:
    torch.manual_seed(0)
    encoder = CausalEncoder(CausalConfig(n_heads=2), 4, 6).eval()
    together = encoder(EVENTS, LENGTHS)
    alone = torch.cat(
        [encoder(EVENTS[:2], LENGTHS[:1]), encoder(EVENTS[:0], LENGTHS[1:2]), encoder(EVENTS[2:], LENGTHS[2:])]
    )
    torch.testing.assert_close(together, alone)
    assert together.shape == (8, 4)


def test_order_matters() -> None:
    torch.manual_seed(0)
    encoder = CausalEncoder(CausalConfig(), 4, 6).eval()
    a, b = (encoder(events, torch.tensor([3]))[-1] for events in (EVENTS[:3], EVENTS[:3].flip(0)))
    assert not np.allclose(a.detach(), b.detach())


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="divisible by model.causal.n_heads, got 4 and 3"):
        CausalEncoder(CausalConfig(n_heads=3), 4, 6)
