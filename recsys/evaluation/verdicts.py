"""Verdicts of decision gates, with the numbers they rest on.

A gate never passes on a missing number, and a gain counts when its interval leaves zero out, unless the gate says that
the interval is only reported.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from recsys.evaluation.calibration import CalibrationKind
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

Outcome = Literal["adopt", "reject", "retry"]


class Check(BaseModel):
    """One number that was asked for."""

    what: str
    value: float | None
    """None: it is missing, and the check has failed."""
    threshold: str
    low: float | None = None
    high: float | None = None
    passed: bool

    @property
    def value_text(self) -> str:
        """The number, as tables show it."""
        return "missing" if self.value is None else f"{self.value:+.5f}"

    @property
    def interval_text(self) -> str:
        """The bounds of its interval; empty where it has none."""
        return "" if self.low is None else f"{self.low:+.5f} .. {self.high:+.5f}"


class Verdict(BaseModel):
    """What a gate decided, and on what."""

    gate: str
    outcome: Outcome
    runs: dict[str, str]
    """By part (candidate, baseline, run), the run that was measured."""
    checks: list[Check]
    reason: str
    settings: tuple[str, ...] = ()
    """Overrides that follow from it."""

    @property
    def is_adopted(self) -> bool:
        """Whether it passed."""
        return self.outcome == "adopt"


def check_gain(criterion: Criterion, differences: Mapping[str, Difference] | None, where: str = "") -> Check:
    """Whether a difference, candidate - baseline, is the gain that is asked for.

    Args:
        criterion: what is asked.
        differences: by metric; None, or without the metric, where there was nothing to measure on.
        where: the group of rows, to name it.
    """
    wanted = criterion.relative_gain if criterion.gain is None else criterion.gain
    assert wanted is not None
    unit = "" if criterion.gain is not None else " of the baseline's"
    needs = ", interval above zero" if criterion.interval == "above_zero" else ""
    threshold = f">= {wanted:+g}{unit}{needs}"
    what = f"{criterion.metric} gain{f', {where}' if where else ''}"
    found = (differences or {}).get(criterion.metric)
    if found is None or found.difference != found.difference:
        return Check(what=what, value=None, threshold=threshold, passed=False)
    sign = -1.0 if criterion.metric in LOWER_IS_BETTER else 1.0
    scale = sign / (abs(found.first) if criterion.gain is None else 1.0)
    value, (low, high) = found.difference * scale, sorted((found.low * scale, found.high * scale))
    passed = value >= wanted and (criterion.interval == "reported" or low > 0)
    return Check(what=what, value=value, threshold=threshold, low=low, high=high, passed=passed)


def comparison_verdict(
    name: str, gate: ComparisonGate, candidate: str, baseline: str, differences: Mapping[str, Difference] | None
) -> Verdict:
    """Adopt where a criterion is met; retry where none is and the gate names another run to try; else reject."""
    checks = [check_gain(criterion, differences) for criterion in gate.any_of]
    passed = any(check.passed for check in checks)
    can_retry = gate.retry is not None and gate.retry != candidate
    outcome: Outcome = "adopt" if passed else "retry" if can_retry else "reject"
    reason = {
        "adopt": f"{candidate} is enough better than {baseline}",
        "retry": f"{candidate} is not enough better than {baseline}: {gate.retry} is tried",
        "reject": f"{candidate} is not enough better than {baseline}",
    }[outcome]
    runs = {"candidate": candidate, "baseline": baseline}
    settings = gate.settings if outcome == "adopt" else ()
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=checks, reason=reason, settings=settings)


def segment_verdict(
    name: str, gate: SegmentGate, baseline: str, by_segment: Mapping[str, Mapping[str, Difference] | None]
) -> Verdict:
    """Adopt where a criterion is met in a segment and no segment's interval lies below zero.

    Args:
        name: of the gate.
        gate: what is asked.
        baseline: the run it was measured against.
        by_segment: differences by label; None for a segment with rows of one class alone.
    """
    checks = [check_gain(criterion, found, label) for criterion in gate.any_of for label, found in by_segment.items()]
    worse = [check.what for check in checks if check.high is not None and check.high < 0]
    gains = [check.what for check in checks if check.passed]
    if worse:
        reason = f"{gate.candidate} is worse than {baseline}: {', '.join(worse)}"
    elif gains:
        reason = f"{gate.candidate} is better than {baseline}: {', '.join(gains)}"
    else:
        reason = f"{gate.candidate} is better than {baseline} in no segment"
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
    """Adopt where recall grows and the ranker that reads the retrieval score is better than the one without.

    Args:
        name: of the gate.
        gate: what is asked.
        baseline: the ranking run without the score.
        recall: of the retrieval run, at the gate's K; None where it was not measured.
        baseline_recall: of the ranking that the gate compares it with.
        differences: of the rankers, with the score - without it.
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
        f"recall {'grows' if passed else 'does not grow'}, "
        f"ranking {'does' if is_better else 'does not'} gain by it ({gate.candidate} against {baseline})"
    )
    runs = {"retrieval": gate.retrieval, "candidate": gate.candidate, "baseline": baseline}
    outcome: Outcome = "adopt" if passed and is_better else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=[recall_check, *gains], reason=reason)


def distribution_verdict(name: str, gate: DistributionGate, stats: Mapping[str, Mapping[str, float]]) -> Verdict:
    """Adopt where mean and spread of p are as asked; those of q are reported beside them.

    Args:
        name: of the gate.
        gate: what is asked.
        stats: by scale, p and q: `mean` and `std`.
    """
    low, high = gate.mean - gate.mean_tolerance, gate.mean + gate.mean_tolerance
    checks = []
    for scale in ("p", "q"):
        mean, std = (stats.get(scale, {}).get(key) for key in ("mean", "std"))
        is_near = mean is not None and low <= mean <= high
        checks.append(
            Check(what=f"mean of {scale}", value=mean, threshold=f"{low:.4g} .. {high:.4g}", passed=is_near),
        )
        is_wide = std is not None and std > gate.min_std
        checks.append(Check(what=f"std of {scale}", value=std, threshold=f"> {gate.min_std:g}", passed=is_wide))
    of_p = checks[:2]
    failed = [check.what for check in of_p if not check.passed]
    reason = f"{', '.join(failed)} out of range" if failed else "p is distributed as asked"
    return Verdict(
        gate=name, outcome="reject" if failed else "adopt", runs={"run": gate.run}, checks=checks, reason=reason
    )


def calibration_verdict(name: str, gate: CalibrationGate, figures: Mapping[CalibrationKind, Metrics]) -> Verdict:
    """Adopt the calibration of the lowest WLL; reject calibration where the raw predictions have it.

    Args:
        name: of the gate.
        gate: what is asked.
        figures: by kind, `none` among them, the cross-fitted metrics.
    """
    raw = figures["none"].wll if "none" in figures else None
    checks = []
    for kind, metrics in figures.items():
        if kind == "none":
            continue
        value = metrics.wll
        is_lower = value is not None and raw is not None and value < raw
        threshold = f"< {raw:.6f}, that of raw predictions" if raw is not None else "below that of raw predictions"
        checks.append(Check(what=f"WLL, {kind}", value=value, threshold=threshold, passed=is_lower))
    passed = [check for check in checks if check.passed]
    outcome: Outcome = "adopt" if passed else "reject"
    best = min(passed, key=lambda check: check.value or 0.0, default=None)
    reason = f"{best.what.removeprefix('WLL, ')} has the lowest WLL" if best else "raw predictions have the lowest WLL"
    if raw is None:
        reason = "the WLL of raw predictions is missing"
    return Verdict(gate=name, outcome=outcome, runs={"run": gate.run}, checks=checks, reason=reason)


def best_run(scores: Mapping[str, float | None], names: Sequence[str]) -> str | None:
    """The run of the highest score among those that have one."""
    known = {name: score for name in names if (score := scores.get(name)) is not None}
    return max(known, key=lambda name: known[name], default=None)
