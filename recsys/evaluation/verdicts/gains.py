"""Checks a criterion: the gain of a candidate over a baseline, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.gates import Criterion
from recsys.evaluation.metrics import LOWER_IS_BETTER
from recsys.evaluation.shown import TITLES, counted
from recsys.evaluation.verdicts.verdict import Check

ONE_CLASS = "one class: not judged"


@dataclass(frozen=True)
class Compared:
    """A candidate compared with a baseline on the same rows."""

    baseline: str
    """The name of the run."""
    comparison: Comparison | None
    """The differences candidate - baseline; None if a run is missing, or if the rows have a single class."""
    is_one_class: bool = False
    """Whether the rows have a single class, so that nothing can be compared on them."""
    notes: tuple[str, ...] = ()
    """Limits of the compared figures, such as a model that was chosen on the same rows."""


def basis_of(comparison: Comparison) -> str:
    """The clusters and seeds that the intervals of a comparison are drawn over."""
    clusters, (n_first, n_second) = counted(comparison.n_clusters, comparison.by), comparison.n_seeds
    if n_first == n_second:
        return f"{clusters}, {counted(n_first, 'seed')} each"
    return f"{clusters}, {n_second} against {n_first} seeds"


def check_gain(criterion: Criterion, compared: Compared, segment: str = "") -> Check:
    """Checks whether a difference, candidate - baseline, reaches the required gain.

    A metric that could not be computed is missing, and so is a gain relative to a baseline value of zero.

    Args:
        criterion: the required gain.
        compared: the candidate compared with the criterion's baseline.
        segment: name of the segment, for the name of the check.
    """
    min_gain = criterion.relative_gain if criterion.gain is None else criterion.gain
    assert min_gain is not None
    unit = "" if criterion.gain is not None else " of the baseline value"
    needs_interval = criterion.interval == "above_zero"
    check = Check(
        what=f"{TITLES[criterion.metric]} gain{f', {segment}' if segment else ''}",
        value=None,
        threshold=f">= {min_gain:+g}{unit}{', interval above zero' if needs_interval else ''}",
        passed=False,
        baseline=compared.baseline,
        notes=compared.notes,
    )
    if compared.is_one_class:
        return check.model_copy(update={"role": "not judged", "notes": (ONE_CLASS, *compared.notes)})
    comparison = compared.comparison
    difference = None if comparison is None else comparison.differences.get(criterion.metric)
    is_relative_to_zero = criterion.gain is None and difference is not None and difference.first == 0
    if comparison is None or difference is None or difference.difference != difference.difference:
        return check
    if is_relative_to_zero:
        return check
    sign = -1.0 if criterion.metric in LOWER_IS_BETTER else 1.0
    scale = sign / (abs(difference.first) if criterion.gain is None else 1.0)
    value, (low, high) = difference.difference * scale, sorted((difference.low * scale, difference.high * scale))
    return check.model_copy(
        update={
            "value": value,
            "low": low,
            "high": high,
            "passed": value >= min_gain and (not needs_interval or low > 0),
            "basis": basis_of(comparison),
            "p_value": difference.p_value if needs_interval and low == low else None,
            "is_look": True,
            "notes": (*((comparison.note,) if comparison.note else ()), *compared.notes),
        }
    )


def check_gains(criteria: Sequence[Criterion], compared: Sequence[Compared], segment: str = "") -> list[Check]:
    """Checks each criterion on the comparison with its own baseline, in the order of the criteria."""
    return [check_gain(criterion, against, segment) for criterion, against in zip(criteria, compared, strict=True)]


def baselines_by_role(criteria: Sequence[Criterion], compared: Sequence[Compared]) -> dict[str, str]:
    """The baselines of the criteria as runs of a verdict: one role, or one for each metric if they differ."""
    names = [against.baseline for against in compared]
    if len(set(names)) <= 1:
        return {"baseline": names[0]}
    return {f"baseline ({c.metric})": name for c, name in zip(criteria, names, strict=True)}


def names_of(compared: Sequence[Compared]) -> str:
    """The names of the baselines, for a sentence."""
    return ", ".join(dict.fromkeys(against.baseline for against in compared))
