"""Evaluates decision gates; a verdict lists the numbers that were checked.

A gate never passes on a missing number. A gain counts only if its interval lies above zero, unless the criterion sets
`interval: reported`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from recsys.evaluation.calibration.calibrator import CalibrationKind
from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import (
    CalibrationGate,
    ComparisonGate,
    Criterion,
    DistributionGate,
    RetrievalGate,
    SegmentGate,
)
from recsys.evaluation.metrics import LOWER_IS_BETTER, Metrics
from recsys.evaluation.shown import format_interval, format_metric, interval_sd

Outcome = Literal["adopt", "reject", "retry", "keep"]
"""keep: nothing had to be adopted, as what is there is already the best."""
STYLES: Mapping[Outcome, str] = {"adopt": "green", "keep": "green", "retry": "yellow", "reject": "red"}
"""Colors of printed outcomes."""


class Check(BaseModel):
    """A number compared with its threshold."""

    what: str
    value: float | None
    """None if the number is missing: the check fails."""
    threshold: str
    low: float | None = None
    high: float | None = None
    passed: bool
    is_gain: bool = True
    """Whether the value is a difference, which is shown with its sign."""

    @property
    def value_text(self) -> str:
        """The value as text for tables."""
        if self.value is None:
            return "missing"
        sd = None if self.low is None or self.high is None else interval_sd(self.low, self.high)
        return format_metric(self.value, sd, "+" if self.is_gain else "")

    @property
    def interval_text(self) -> str:
        """The interval bounds as text for tables; empty if the check has no interval."""
        return "" if self.low is None or self.high is None else format_interval(self.low, self.high)


class Verdict(BaseModel):
    """The decision of a gate, with its checks."""

    gate: str
    outcome: Outcome
    runs: dict[str, str]
    """By role (candidate, baseline, retrieval, run): the evaluated run."""
    checks: list[Check]
    reason: str
    settings: tuple[str, ...] = ()
    """Overrides for later models that follow from the decision."""

    @property
    def is_adopted(self) -> bool:
        """Whether the gate passed."""
        return self.outcome in ("adopt", "keep")

    def result_of(self, check: Check) -> Literal["pass", "fail", "kept"]:
        """The result of a check; `kept` if it failed because what is there is already the best."""
        if check.passed:
            return "pass"
        return "kept" if self.outcome == "keep" else "fail"


def check_gain(criterion: Criterion, differences: Mapping[str, Difference] | None, segment: str = "") -> Check:
    """Checks whether a difference, candidate - baseline, reaches the required gain.

    Args:
        criterion: the required gain.
        differences: by metric; None, or without the metric, if it could not be computed. A gain relative to a baseline
            value of zero is missing too.
        segment: name of the segment, for the name of the check.
    """
    min_gain = criterion.relative_gain if criterion.gain is None else criterion.gain
    assert min_gain is not None
    unit = "" if criterion.gain is not None else " of the baseline value"
    interval_condition = ", interval above zero" if criterion.interval == "above_zero" else ""
    threshold = f">= {min_gain:+g}{unit}{interval_condition}"
    what = f"{criterion.metric} gain{f', {segment}' if segment else ''}"
    difference = (differences or {}).get(criterion.metric)
    is_relative_to_zero = criterion.gain is None and difference is not None and difference.first == 0
    if difference is None or difference.difference != difference.difference or is_relative_to_zero:
        return Check(what=what, value=None, threshold=threshold, passed=False)
    sign = -1.0 if criterion.metric in LOWER_IS_BETTER else 1.0
    scale = sign / (abs(difference.first) if criterion.gain is None else 1.0)
    value, (low, high) = difference.difference * scale, sorted((difference.low * scale, difference.high * scale))
    passed = value >= min_gain and (criterion.interval == "reported" or low > 0)
    return Check(what=what, value=value, threshold=threshold, low=low, high=high, passed=passed)


def comparison_verdict(
    name: str, gate: ComparisonGate, candidate: str, baseline: str, differences: Mapping[str, Difference] | None
) -> Verdict:
    """Adopts if a criterion is met; retries if none is and the gate names another run to try; otherwise rejects."""
    checks = [check_gain(criterion, differences) for criterion in gate.any_of]
    passed = any(check.passed for check in checks)
    can_retry = gate.retry is not None and gate.retry != candidate
    outcome: Outcome = "adopt" if passed else "retry" if can_retry else "reject"
    reason = {
        "adopt": f"{candidate} reaches the required gain over {baseline}",
        "retry": f"{candidate} does not reach the required gain over {baseline}: {gate.retry} is tried next",
        "reject": f"{candidate} does not reach the required gain over {baseline}",
    }[outcome]
    runs = {"candidate": candidate, "baseline": baseline}
    settings = gate.settings if outcome == "adopt" else ()
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=checks, reason=reason, settings=settings)


def segment_verdict(
    name: str, gate: SegmentGate, baseline: str, by_segment: Mapping[str, Mapping[str, Difference] | None]
) -> Verdict:
    """Adopts if a criterion is met in a segment and no segment's interval lies below zero.

    Args:
        name: the name of the gate.
        gate: the gate.
        baseline: the run that the candidate is compared with.
        by_segment: differences by segment label; None for a segment with rows of one class.
    """
    checks = [
        check_gain(criterion, differences, label)
        for criterion in gate.any_of
        for label, differences in by_segment.items()
    ]
    worse = [check.what for check in checks if check.high is not None and check.high < 0]
    gains = [check.what for check in checks if check.passed]
    if worse:
        reason = f"{gate.candidate} is worse than {baseline}: {', '.join(worse)}"
    elif gains:
        reason = f"{gate.candidate} is better than {baseline}: {', '.join(gains)}"
    else:
        reason = f"{gate.candidate} is not better than {baseline} in any segment"
    runs = {"candidate": gate.candidate, "baseline": baseline}
    outcome: Outcome = "adopt" if gains and not worse else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=checks, reason=reason)


def retrieval_verdict(
    name: str,
    gate: RetrievalGate,
    baseline: str,
    recall: float | None,
    baseline_recall: float | None,
    differences: Mapping[str, Difference] | None,
) -> Verdict:
    """Adopts if recall increases and the ranker that uses the retrieval score is better than the one without it.

    Args:
        name: the name of the gate.
        gate: the gate.
        baseline: the ranking run without the score.
        recall: recall of the retrieval run at the gate's K; None if it was not measured.
        baseline_recall: recall of the gate's baseline (`over`) at the same K; None if it was not measured.
        differences: by metric, ranker with the score - ranker without it.
    """
    key = f"recall@{gate.recall_at}"
    value = None if recall is None or baseline_recall is None else recall - baseline_recall
    passed = value is not None and value > gate.recall_gain
    recall_check = Check(
        what=f"{key} over {gate.over}", value=value, threshold=f"> {gate.recall_gain:+g}", passed=passed
    )
    gains = [check_gain(criterion, differences) for criterion in gate.any_of]
    is_better = any(check.passed for check in gains)
    reason = (
        f"recall {'increases' if passed else 'does not increase'}, "
        f"ranking {'improves' if is_better else 'does not improve'} ({gate.candidate} against {baseline})"
    )
    runs = {"retrieval": gate.retrieval, "candidate": gate.candidate, "baseline": baseline}
    outcome: Outcome = "adopt" if passed and is_better else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=[recall_check, *gains], reason=reason)


def distribution_verdict(name: str, gate: DistributionGate, stats: Mapping[str, Mapping[str, float]]) -> Verdict:
    """Adopts if the mean and the standard deviation of p are in range; those of q are only reported.

    Args:
        name: the name of the gate.
        gate: the gate.
        stats: by scale (p, q): `mean` and `std`.
    """
    low, high = gate.mean - gate.mean_tolerance, gate.mean + gate.mean_tolerance
    checks = []
    for scale in ("p", "q"):
        mean, std = (stats.get(scale, {}).get(key) for key in ("mean", "std"))
        is_near = mean is not None and low <= mean <= high
        checks.append(
            Check(
                what=f"mean of {scale}",
                value=mean,
                threshold=f"{low:.4g} .. {high:.4g}",
                passed=is_near,
                is_gain=False,
            )
        )
        is_wide = std is not None and std > gate.min_std
        checks.append(
            Check(what=f"std of {scale}", value=std, threshold=f"> {gate.min_std:g}", passed=is_wide, is_gain=False)
        )
    p_checks = checks[:2]
    failed = [check.what for check in p_checks if not check.passed]
    reason = f"{', '.join(failed)} out of range" if failed else "mean and std of p are in range"
    return Verdict(
        gate=name, outcome="reject" if failed else "adopt", runs={"run": gate.run}, checks=checks, reason=reason
    )


def calibration_verdict(name: str, gate: CalibrationGate, figures: Mapping[CalibrationKind, Metrics]) -> Verdict:
    """Adopts the calibration with the lowest WLL; keeps the raw predictions if they have the lowest.

    Args:
        name: the name of the gate.
        gate: the gate.
        figures: cross-fitted metrics by kind, including `none`.
    """
    raw_wll = figures["none"].wll if "none" in figures else None
    gains: dict[CalibrationKind, float | None] = {
        kind: None if raw_wll is None or metrics.wll is None else raw_wll - metrics.wll
        for kind, metrics in figures.items()
        if kind != "none"
    }
    checks = [
        Check(what=f"wll gain, {kind}", value=gain, threshold="> 0", passed=gain is not None and gain > 0)
        for kind, gain in gains.items()
    ]
    known_gains = {kind: gain for kind, gain in gains.items() if gain is not None}
    best = max(known_gains, key=lambda kind: known_gains[kind], default=None)
    outcome: Outcome
    if raw_wll is None:
        outcome, reason = "reject", "the WLL of raw predictions is missing"
    elif best is None or known_gains[best] <= 0:
        outcome, reason = "keep", "raw predictions are already the best"
    else:
        outcome, reason = "adopt", f"{best} has the lowest WLL"
    return Verdict(gate=name, outcome=outcome, runs={"run": gate.run}, checks=checks, reason=reason)


def best_run(scores: Mapping[str, float | None], names: Sequence[str]) -> str | None:
    """The run with the highest score; None if no run has a score."""
    known_scores = {name: score for name in names if (score := scores.get(name)) is not None}
    return max(known_scores, key=lambda name: known_scores[name], default=None)
