import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize_scalar

from recsys.data.split import Prior
from recsys.evaluation.logits import LogitLink, focal_posterior_logit, logit_of, probability
from recsys.training.config import LossConfig
from recsys.training.losses import FocalLoss, WeightedLogLoss, build_loss

PRIOR = Prior(n_positive=100, n_negative=4900)


def test_weighted_log_loss_by_hand() -> None:
    logits, label = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    expected = [3 * np.log(2), np.log1p(np.exp(2))]
    assert WeightedLogLoss(3.0)(logits, label).tolist() == pytest.approx(expected)


def test_focal_loss_by_hand() -> None:
    logits, label = torch.tensor([0.0, np.log(3.0)]), torch.tensor([1.0, 0.0])
    # v = 1/2 for the positive; v = 3/4 for the negative, whose true class has probability 1/4
    expected = [0.9 * 0.5**2 * np.log(2), 0.1 * 0.75**2 * np.log(4)]
    assert FocalLoss(2.0, 0.9)(logits, label).tolist() == pytest.approx(expected)


def test_focal_loss_of_gamma_zero_is_the_log_loss() -> None:
    logits, label = torch.randn(50), (torch.rand(50) < 0.3).float()
    assert torch.allclose(2 * FocalLoss(0.0, 0.5)(logits, label), WeightedLogLoss(1.0)(logits, label), atol=1e-6)


def test_losses_and_gradients_are_finite_for_extreme_logits() -> None:
    for loss in (WeightedLogLoss(50.0), FocalLoss(2.0, 0.98), FocalLoss(0.5, 0.5)):
        logits = torch.tensor([-90.0, 90.0, -90.0, 90.0], requires_grad=True)
        total = loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0])).sum()
        total.backward()
        assert torch.isfinite(total)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("eta", [0.002, 0.02, 0.4, 0.9])
def test_closed_form_inverts_the_focal_loss(gamma: float, eta: float) -> None:
    """Maps the logit that minimizes the expected focal loss at a click rate of eta to the logit of eta."""

    def expected_loss(z: float) -> float:
        v = probability(np.array([z]))[0]
        return -eta * (1 - v) ** gamma * np.log(v) - (1 - eta) * v**gamma * np.log(1 - v)

    best = minimize_scalar(expected_loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-9}).x
    assert focal_posterior_logit(np.array([best]), gamma)[0] == pytest.approx(logit_of(np.array([eta]))[0], abs=1e-4)
    if eta < 0.1:
        assert abs(best - logit_of(np.array([eta]))[0]) > 0.1  # without the correction p would be biased


def test_closed_form_is_finite_increasing_and_odd() -> None:
    z = np.linspace(-60, 60, 2001)
    found = focal_posterior_logit(z, 2.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert np.allclose(found, -found[::-1])


@pytest.mark.parametrize(
    "config",
    [LossConfig(), LossConfig(pos_weight=3.0), LossConfig(name="focal"), LossConfig(name="focal", gamma=1, alpha=0.3)],
)
def test_p_is_unbiased_after_training_with_any_loss(config: LossConfig) -> None:
    """Trains one logit for each of eight known click rates to the minimum of the loss: p equals the rate."""
    rate = torch.tensor([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.7], dtype=torch.float64)
    loss, link = build_loss(config, PRIOR)
    logits = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = (rate * loss(logits, torch.ones(8)) + (1 - rate) * loss(logits, torch.zeros(8))).sum()
        total.backward()
        return total

    optimizer.step(closure)
    p = link.logits(logits.detach().numpy()).p
    assert p == pytest.approx(rate.numpy(), rel=0.01)
    q = link.logits(logits.detach().numpy()).q
    assert q == pytest.approx((p * 49 / (p * 49 + 1 - p)), rel=1e-6)


def test_auto_balances_the_classes() -> None:
    _, link = build_loss(LossConfig(), PRIOR)
    assert link == LogitLink(49.0, 49.0)
    loss, link = build_loss(LossConfig(name="focal", gamma=1), PRIOR)
    assert isinstance(loss, FocalLoss)
    assert loss.alpha == pytest.approx(0.98)
    assert link.trained_weight == pytest.approx(49.0)


def test_settings_of_the_other_loss_are_refused() -> None:
    with pytest.raises(ValidationError, match="'pos_weight' is not a setting of the focal loss"):
        LossConfig(name="focal", pos_weight=3.0)
    with pytest.raises(ValidationError, match="'gamma' is not a setting of the log_loss loss"):
        LossConfig(gamma=1.0)
