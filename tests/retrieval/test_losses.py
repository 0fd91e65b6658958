"""Losses against hand-computed cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.losses import full_softmax, log_expected_count, sampled_softmax, unlikelihood

OWN = torch.tensor([1.0, 0.0])
OTHER = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -1.0]])
IS_HIT = torch.tensor([[True, False, False], [False, True, False]])


def test_sampled_softmax_by_hand() -> None:
    found = sampled_softmax(OWN, OTHER, IS_HIT)
    first = -math.log(math.e / (math.e + 1 + math.e**2))
    second = -math.log(1 / (1 + math.e**3 + math.e**-1))
    assert found.tolist() == pytest.approx([first, second])


def test_unlikelihood_by_hand() -> None:
    found = unlikelihood(OWN, OTHER, IS_HIT)
    p = math.e / (math.e + 1 + math.e**2)
    assert float(found[0]) == pytest.approx(-math.log(1 - p))


def test_accidental_hits_are_no_negatives() -> None:
    """Whatever a masked candidate's logit is, the loss and its gradients are the same."""
    other = OTHER.clone().requires_grad_()
    loss = sampled_softmax(OWN, other, IS_HIT).sum()
    loss.backward()
    assert other.grad is not None
    assert other.grad[IS_HIT].abs().max() == 0
    moved = torch.where(IS_HIT, 50.0, OTHER)
    assert torch.equal(sampled_softmax(OWN, moved, IS_HIT).sum(), loss)


def test_a_row_without_any_negative_has_no_loss() -> None:
    found = sampled_softmax(torch.tensor([0.7]), torch.tensor([[2.0]]), torch.tensor([[True]]))
    assert found.tolist() == [0.0]


def test_expected_counts() -> None:
    found = log_expected_count(torch.tensor([0.5, 0.25, 0.0]), n_drawn=8, n_uniform=6, n_ads=3)
    assert found.exp().tolist() == pytest.approx([8 * 0.5 + 2, 8 * 0.25 + 2, 2])


def test_full_softmax_is_cross_entropy_over_all_ads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("retrieval.losses", fromlist=["_CHUNK"])._CHUNK, "cpu", 40)  # several chunks
    torch.manual_seed(0)
    target, weight = torch.tensor([0, 3, -1, 8, 2, 2, 5]), torch.rand(7)

    def gradients(loss_of: object) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(1)
        x, ads = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
        losses: Tensor = loss_of(x, ads)  # type: ignore[operator]
        (losses * weight).sum().backward()
        assert x.grad is not None
        assert ads.grad is not None
        return losses.detach(), x.grad, ads.grad

    ours = gradients(lambda x, ads: full_softmax(x, ads, target))
    theirs = gradients(lambda x, ads: functional.cross_entropy(x @ ads.T, target, reduction="none", ignore_index=-1))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference)


SHARES = torch.tensor([[0.70, 0.02, 0.07, 0.07, 0.07, 0.07], [0.40, 0.30, 0.075, 0.075, 0.075, 0.075]])
"""P(ad) for each of two kinds of users, four rows of the first kind to one of the second."""


def fit_toy(is_corrected: bool) -> np.ndarray:
    """[2, 6] scores that training by in-batch negatives ends with."""
    kind_B = torch.tensor([0] * 104 + [1] * 24)
    share = (SHARES * torch.tensor([[104 / 128], [24 / 128]])).sum(dim=0)
    score = torch.zeros(2, 6, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    log_q = log_expected_count(share, 128, 0, 6) if is_corrected else torch.zeros(6)
    kept = []
    for step in range(600):
        ad_B = torch.multinomial(SHARES[kind_B], 1, generator=generator).squeeze(1)
        own_B, other_BB = score[kind_B, ad_B], (score - log_q)[kind_B][:, ad_B]
        loss = sampled_softmax(own_B, other_BB, ad_B[:, None] == ad_B[None, :]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 300:
            kept.append(score.detach().clone())
    return torch.stack(kept).mean(dim=0).numpy()


def test_the_correction_recovers_the_true_ordering() -> None:
    """ln P(ad | user) up to a constant; without it the second kind's best ad, which all see, comes second."""
    corrected, plain, true = fit_toy(True), fit_toy(False), SHARES.log().numpy()
    centred = corrected - corrected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred, true - true.mean(axis=1, keepdims=True), atol=0.2)
    assert list(np.argsort(-corrected[1])[:2]) == [0, 1]
    assert list(np.argsort(-plain[1])[:2]) == [1, 0]
