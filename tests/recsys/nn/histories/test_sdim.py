import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn.utils.rnn import pad_sequence

from recsys.nn.histories.sdim import SDIM

LENGTHS = torch.tensor([3, 0, 5, 1])


def events_and_targets(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(int(LENGTHS.sum()), dim), torch.randn(len(LENGTHS), dim)


def by_numpy(sdim: SDIM, events: np.ndarray, target: np.ndarray, width: int) -> np.ndarray:
    """The pooled events of one row: a loop over groups of hashes."""
    vectors, pooled = sdim.hashes.numpy(), []
    for group in np.split(vectors, vectors.shape[1] // width, axis=1):
        signature = target @ group > 0
        total = sum((event for event in events if ((event @ group > 0) == signature).all()), np.zeros(len(target)))
        pooled.append(total / max(np.linalg.norm(total), 1e-12))
    return np.mean(pooled, axis=0)


@pytest.mark.parametrize(("n_hashes", "width"), [(6, 1), (12, 3), (4, 4)])
def test_pooling_by_numpy(n_hashes: int, width: int) -> None:
    events, targets = events_and_targets(4)
    sdim = SDIM(4, n_hashes, width)
    found = sdim(events, LENGTHS, 6, targets).numpy()
    for row, (own, target) in enumerate(zip(events.split(LENGTHS.tolist()), targets, strict=True)):
        assert_allclose(found[row], by_numpy(sdim, own.numpy(), target.numpy(), width), atol=1e-6)


def test_pooling_by_hand() -> None:
    sdim = SDIM(2, 4, 2)
    sdim.hashes.copy_(torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, -1.0]]))
    events = torch.tensor([[3.0, 1.0], [1.0, 3.0], [-1.0, 2.0]])
    # group 1, signs of x and y: (3, 1) and (1, 3) are in the target's quadrant; their sum is (4, 4)
    # group 2, signs of x + y and x - y: (3, 1) alone is to the right of both diagonals
    assert sdim.signatures(events).tolist() == [[3, 3], [3, 1], [2, 1]]
    found = sdim(events, torch.tensor([3]), 3, torch.tensor([[2.0, 1.0]]))
    expected = (np.array([4, 4]) / np.sqrt(32) + np.array([3, 1]) / np.sqrt(10)) / 2
    assert_allclose(found[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.6, 0.95])
def test_signatures_collide_as_often_as_the_angle_says(width: int, cosine: float) -> None:
    """A pair of vectors, many groups of hashes: (1 - angle / pi)^width of the signatures are equal."""
    n_groups = 2000
    x = torch.tensor([[1.0, 0.0], [7 * cosine, 7 * (1 - cosine**2) ** 0.5]])
    first, second = SDIM(2, n_groups * width, width).signatures(x)
    rate = float((first == second).float().mean())
    expected = (1 - np.arccos(cosine) / np.pi) ** width
    assert abs(rate - expected) < 4 * (expected * (1 - expected) / n_groups) ** 0.5


def test_equal_events_always_share_the_signature_and_opposite_ones_never() -> None:
    target = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    sdim = SDIM(8, 48, 3)
    found = sdim(torch.cat([target, -target]), torch.tensor([2]), 2, target)
    assert_allclose(found.numpy(), (target / target.norm()).numpy(), rtol=1e-5)


def test_order_padding_and_other_rows_change_nothing() -> None:
    events, targets = events_and_targets(4)
    sdim = SDIM(4, 12, 3)
    whole = sdim(events, LENGTHS, 5, targets)
    assert torch.allclose(sdim(events, LENGTHS, 50, targets), whole, atol=1e-6)
    turned = torch.cat([part.flip(0) for part in events.split(LENGTHS.tolist())])
    assert torch.allclose(sdim(turned, LENGTHS, 5, targets), whole, atol=1e-6)
    for row, own in enumerate(events.split(LENGTHS.tolist())):
        alone = sdim(own, LENGTHS[row : row + 1], 5, targets[row : row + 1])
        assert torch.allclose(alone[0], whole[row], atol=1e-6)


def test_candidates_of_padded_histories() -> None:
    events, targets = events_and_targets(4)
    sdim = SDIM(4, 12, 3)
    padded = pad_sequence(events.split(LENGTHS.tolist()), batch_first=True)
    candidates = torch.stack([targets, targets.flip(0)], dim=1)
    found = sdim.of_candidates(padded, candidates)
    for number in range(2):
        expected = sdim(events, LENGTHS, 5, candidates[:, number])
        assert torch.allclose(found[:, number], expected, atol=1e-6)


def test_empty_histories_pool_to_zeros_with_finite_gradients() -> None:
    events = torch.zeros(0, 4, requires_grad=True)
    pooled = SDIM(4, 12, 3)(events, torch.tensor([0, 0]), 5, torch.randn(2, 4))
    assert pooled.tolist() == [[0.0] * 4] * 2
    events, targets = events_and_targets(4)
    events = torch.cat([events[:1], -events[:1], events[2:]]).requires_grad_()  # sums of zero
    SDIM(4, 12, 3)(events, LENGTHS, 5, targets).square().sum().backward()
    assert events.grad is not None
    assert events.grad.isfinite().all()


def test_only_events_that_match_get_gradients() -> None:
    target = torch.tensor([[1.0, 2.0, 3.0]])
    events = torch.cat([target + 1, -target]).requires_grad_()
    SDIM(3, 12, 3)(events, torch.tensor([2]), 2, target)[0, 0].backward()
    assert events.grad is not None
    assert events.grad[0].any()
    assert not events.grad[1].any()


def test_hashes_are_constant_and_draw_nothing() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    first = SDIM(4, 6, 2)
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(SDIM(4, 6, 2).hashes, first.hashes)
    assert list(first.state_dict()) == ["hashes"]
    assert list(first.parameters()) == []
