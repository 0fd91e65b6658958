"""Losses against hand-computed cases."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from retrieval import losses
from retrieval.losses import catalog_softmax, log_expected_count, logsumexp_negatives, sampled_softmax, unlikelihood

OWN = torch.tensor([1.0, 0.0])
OTHER = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -1.0]])
IS_HIT = torch.tensor([[True, False, False], [False, True, False]])


def others(logits: Tensor, is_hit: Tensor) -> Tensor:
    """logsumexp_negatives with unit vectors as candidates, so that its first argument has the logits."""
    own, ids = torch.tensor([0, 1]), torch.tensor([0, 1, 2])
    assert torch.equal(own[:, None] == ids, is_hit)
    return logsumexp_negatives(logits, torch.eye(3), torch.zeros(3), own, ids)


def test_sampled_softmax_by_hand() -> None:
    found = sampled_softmax(OWN, others(OTHER, IS_HIT))
    first = -math.log(math.e / (math.e + 1 + math.e**2))
    second = -math.log(1 / (1 + math.e**3 + math.e**-1))
    assert found.tolist() == pytest.approx([first, second])


def test_unlikelihood_by_hand() -> None:
    found = unlikelihood(OWN, others(OTHER, IS_HIT))
    p = math.e / (math.e + 1 + math.e**2)
    assert float(found[0]) == pytest.approx(-math.log(1 - p), rel=1e-5)


def test_accidental_hits_are_no_negatives() -> None:
    """The logit of a hit does not change the loss and gets no gradient."""
    other = OTHER.clone().requires_grad_()
    loss = sampled_softmax(OWN, others(other, IS_HIT)).sum()
    loss.backward()
    assert other.grad is not None
    assert other.grad[IS_HIT].abs().max() == 0
    assert other.grad[~IS_HIT].abs().min() > 0
    moved = torch.where(IS_HIT, 50.0, OTHER)
    assert torch.equal(sampled_softmax(OWN, others(moved, IS_HIT)).sum(), loss)


def test_a_row_without_any_negative_has_no_loss_and_no_gradient() -> None:
    x, items, one = torch.ones(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True), torch.tensor([5])
    found = sampled_softmax(x.sum(dim=1), logsumexp_negatives(x, items, torch.zeros(1), one, one))
    found.sum().backward()
    assert found.tolist() == [0.0]
    assert x.grad is not None
    assert items.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0]]
    assert items.grad.tolist() == [[0.0, 0.0]]


def test_candidates_with_an_infinite_shift_are_excluded() -> None:
    shift, no_hit = torch.tensor([0.0, 0.0, torch.inf]), torch.tensor([-1, -1])
    found = logsumexp_negatives(OTHER, torch.eye(3), shift, no_hit, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, OTHER[:, :2].logsumexp(dim=1))


def test_expected_counts() -> None:
    found = log_expected_count(torch.tensor([0.5, 0.25, 0.0]), n_drawn=8, n_uniform=6, n_items=3)
    assert found.exp().tolist() == pytest.approx([8 * 0.5 + 2, 8 * 0.25 + 2, 2])


@pytest.mark.parametrize("most_kept", [0, 1000])
def test_chunks_give_the_gradients_of_plain_pytorch(monkeypatch: pytest.MonkeyPatch, most_kept: int) -> None:
    """With stored and with recomputed probabilities."""
    monkeypatch.setattr(losses, "_MAX_STORED_PROBS", most_kept)
    monkeypatch.setitem(losses._CHUNK, "cpu", 40)  # several chunks
    own, ids, shift, weight = torch.tensor([0, 3, 9, 8, 2, 2, 5]), torch.arange(9) // 2, torch.rand(9), torch.rand(7)

    def gradients(sum_of: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(1)
        x, items = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
        found = sum_of(x, items)
        (found * weight).sum().backward()
        assert x.grad is not None
        assert items.grad is not None
        return found.detach(), x.grad, items.grad

    def plain(x: Tensor, items: Tensor) -> Tensor:
        return (x @ items.T - shift).masked_fill(own[:, None] == ids, -torch.inf).logsumexp(dim=1)

    ours = gradients(lambda x, items: logsumexp_negatives(x, items, shift, own, ids))
    for mine, reference in zip(ours, gradients(plain), strict=True):
        torch.testing.assert_close(mine, reference)


SHARES = torch.tensor([[0.70, 0.02, 0.07, 0.07, 0.07, 0.07], [0.40, 0.30, 0.075, 0.075, 0.075, 0.075]])
"""P(item) of two kinds of users; about four of five rows are of the first kind."""


def fit_toy(is_corrected: bool) -> np.ndarray:
    """Trains scores with in-batch negatives; returns them, [2, 6]."""
    kind_B = torch.tensor([0] * 104 + [1] * 24)
    share = (SHARES * torch.tensor([[104 / 128], [24 / 128]])).sum(dim=0)
    score = torch.zeros(2, 6, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    log_q = log_expected_count(share, 128, 0, 6) if is_corrected else torch.zeros(6)
    kept = []
    for step in range(600):
        item_B = torch.multinomial(SHARES[kind_B], 1, generator=generator).squeeze(1)
        scores_BI, candidate_BI = score[kind_B], torch.eye(6)[item_B]
        others_B = logsumexp_negatives(scores_BI, candidate_BI, log_q[item_B], item_B, item_B)
        loss = sampled_softmax(score[kind_B, item_B], others_B).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 300:
            kept.append(score.detach().clone())
    return torch.stack(kept).mean(dim=0).numpy()


def test_correction_recovers_the_true_order() -> None:
    """Scores are ln P(item | user) up to a constant; without the correction the second kind's best item is second."""
    corrected, plain, true = fit_toy(True), fit_toy(False), SHARES.log().numpy()
    centred = corrected - corrected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred, true - true.mean(axis=1, keepdims=True), atol=0.2)
    assert list(np.argsort(-corrected[1])[:2]) == [0, 1]
    assert list(np.argsort(-plain[1])[:2]) == [1, 0]


@pytest.mark.parametrize("stored", [1 << 28, 0])
def test_catalog_softmax_is_the_cross_entropy(stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_MAX_STORED_PROBS", stored)
    monkeypatch.setattr(losses, "_CHUNK", {"cpu": 30})
    generator = torch.Generator().manual_seed(0)
    x, items = (torch.randn(n, 4, generator=generator, requires_grad=True) for n in (17, 9))
    target, weight = torch.arange(17) % 9, torch.rand(17, generator=generator)
    found, expected = (
        catalog_softmax(x, items, target),
        torch.nn.functional.cross_entropy(x @ items.T, target, reduction="none"),
    )
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (x, items)),
        torch.autograd.grad((expected * weight).sum(), (x, items)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
