"""Holm's correction: p-values worked out by hand, and the share of plans that adopt something by chance."""

import numpy as np
import pytest

from recsys.evaluation.verdicts.holm import ALPHA, adjust, holm
from recsys.evaluation.verdicts.verdict import Check, Verdict


def check(p_value: float | None, passed: bool = True, requirement: str = "gain") -> Check:
    return Check(
        what="ap gain",
        value=0.01,
        threshold=">= 0",
        low=0.001,
        high=0.02,
        passed=passed,
        p_value=p_value,
        requirement=requirement,
        is_look=True,
    )


def verdict(*checks: Check, gate: str = "A", outcome: str = "adopt") -> Verdict:
    return Verdict.model_validate(
        {"gate": gate, "outcome": outcome, "runs": {"candidate": gate}, "checks": list(checks), "reason": "gain"}
    )


def test_adjusted_p_values_by_hand() -> None:
    """Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; none is below the one before: .02 .03 .06 .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_adoption_follows_the_adjusted_p_values() -> None:
    """.01 and .02 pass alone; times 3 and 2 they are .03 and .04: both pass. With 4 comparisons, .02 is .06."""
    first, second, failed = (
        verdict(check(0.01)),
        verdict(check(0.02), gate="B"),
        verdict(check(0.3, passed=False), gate="C", outcome="reject"),
    )
    three = adjust([first, second, failed])
    assert [v.outcome for v in three] == ["adopt", "adopt", "reject"]
    assert [v.checks[0].adjusted_p for v in three] == pytest.approx([0.03, 0.04, 0.3])
    four = adjust([first, second, failed, failed.model_copy(update={"gate": "D"})])
    assert [v.outcome for v in four] == ["adopt", "reject", "reject", "reject"]
    assert four[1].reason == "gain; not with Holm's correction for 4 comparisons"
    assert four[1].checks[0].adjusted_p == pytest.approx(0.06)


def test_one_alternative_is_enough_but_every_requirement_has_to_pass() -> None:
    either = adjust([verdict(check(0.04), check(0.001))])[0]
    assert either.outcome == "adopt"
    both = verdict(check(0.04, requirement="recall"), check(0.03))
    assert adjust([both])[0].outcome == "reject"  # .03 x 2 = .06
    clear = verdict(check(0.02, requirement="recall"), check(0.001))
    assert adjust([clear])[0].outcome == "adopt"


def test_checks_without_a_p_value_are_not_in_the_family() -> None:
    limits, kept = verdict(check(None)), verdict(check(None, passed=False), outcome="keep")
    assert adjust([limits, kept, verdict(check(0.04))]) == [
        limits,
        kept,
        verdict(check(0.04).model_copy(update={"adjusted_p": 0.04})),
    ]


def test_a_plan_without_true_gains_adopts_at_most_as_often_as_promised() -> None:
    """Ten true nulls: unadjusted, some gate adopts in 1 - .975^10 = 22 % of plans (half the 5 % is gains)."""
    rng, n_plans, adopted = np.random.default_rng(0), 1000, {"none": 0, "holm": 0}
    for _ in range(n_plans):
        p_values, is_gain = rng.random(10), rng.random(10) < 0.5
        made = [
            verdict(
                check(float(p), passed=bool(gain and p <= ALPHA)), outcome="adopt" if gain and p <= ALPHA else "reject"
            )
            for p, gain in zip(p_values, is_gain, strict=True)
        ]
        adopted["none"] += any(v.is_adopted for v in made)
        adopted["holm"] += any(v.is_adopted for v in adjust(made))
    assert adopted["none"] / n_plans > 0.18
    assert adopted["holm"] / n_plans < ALPHA
