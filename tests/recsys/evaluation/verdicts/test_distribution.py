"""The distribution gate on predictions whose truth is known: the true probabilities themselves have to pass."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from recsys.evaluation.gates import DistributionGate
from recsys.evaluation.verdicts.distribution import Distribution, distribution_verdict

GATE = DistributionGate(kind="distribution", run="r", mean=0.0191, mean_tolerance=0.005, min_std=0.05)


def truth(n: int = 100_000, seed: int = 0) -> Distribution:
    """True probabilities with a mean of about .019 and a standard deviation of about .025, and drawn clicks."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-4.3, 0.9, n)
    p = 1 / (1 + np.exp(-logit))
    click = rng.random(n) < p
    rate = click.mean()
    return Distribution(
        observed_rate=float(rate),
        rate_sd=float(np.sqrt(rate * (1 - rate) / n)),
        mean_p=float(p.mean()),
        std_p=float(p.std()),
        std_logit=float(logit.std()),
        reachable_std=float(logit.std()),
        reference="the true probabilities",
    )


@pytest.mark.parametrize("n", [2_000, 100_000])
def test_the_true_probabilities_pass(n: int) -> None:
    passed = [distribution_verdict("d", GATE, truth(n, seed)).is_adopted for seed in range(100)]
    assert np.mean(passed) >= 0.95


def test_the_old_limit_rejects_the_truth_and_is_only_reported() -> None:
    verdict = distribution_verdict("d", GATE, truth())
    by_name = {check.what: check for check in verdict.checks}
    std = by_name["std of p, as asked"]
    assert not std.passed  # std > .05 is out of reach of the truth
    assert (verdict.result_of(std), std.basis_text) == ("reported", "as asked: not met")
    assert by_name["mean of p, as asked"].basis_text == "as asked: met"
    assert verdict.is_adopted


def test_biased_and_flat_predictions_are_out_of_range() -> None:
    found = truth()
    for change, what in (
        ({"mean_p": 1.3 * found.mean_p}, "mean of p"),
        ({"std_logit": 0.1 * found.std_logit}, "std of the logit"),
        ({"std_logit": 2.0 * found.std_logit}, "std of the logit"),
    ):
        verdict = distribution_verdict("d", GATE, replace(found, **change))
        assert verdict.outcome == "reject"
        assert what in verdict.reason
        assert "r cannot be the final model" in verdict.reason


def test_without_a_reference_the_spread_is_not_judged() -> None:
    verdict = distribution_verdict("d", GATE, replace(truth(), reachable_std=None))
    assert verdict.is_adopted
    assert "not judged: std of the logit" in verdict.reason
    assert distribution_verdict("d", GATE, None).outcome == "reject"


def test_limits_belong_together() -> None:
    with pytest.raises(ValidationError, match="mean and mean_tolerance belong together"):
        DistributionGate(kind="distribution", run="r", mean=0.1)
    with pytest.raises(ValidationError, match="min_spread must be below max_spread"):
        DistributionGate(kind="distribution", run="r", min_spread=2)
