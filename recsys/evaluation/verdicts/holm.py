"""Holm's correction for the number of comparisons that the gates of a plan make.

The family is every criterion that requires an interval, of every verdict: each of them could pass by chance. With the
correction, the probability that any criterion without a true gain passes is at most `ALPHA`.

Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Iterator, Sequence

from recsys.evaluation.verdicts.verdict import Check, Verdict

ALPHA = 0.05
"""The level of the 95 % intervals."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns adjusted p-values in the order given: the largest of (m - rank) p over the smaller ones, at most 1."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def adjust(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns the verdicts with adjusted p-values; adopts only what still passes with them.

    A verdict that was not an adoption stays as it is, and so do checks without a p-value.
    """
    p_values = [check.p_value for verdict in verdicts for check in verdict.checks if check.p_value is not None]
    remaining = iter(holm(p_values))
    return [
        _adjust(verdict, [_with_p(check, remaining) for check in verdict.checks], len(p_values)) for verdict in verdicts
    ]


def _with_p(check: Check, remaining: Iterator[float]) -> Check:
    return check if check.p_value is None else check.model_copy(update={"adjusted_p": next(remaining)})


def _adjust(verdict: Verdict, checks: list[Check], n_tests: int) -> Verdict:
    passed = {check.requirement for check in checks if _passes(check)}
    lost = {check.requirement for check in verdict.checks if check.passed and check.role == "decides"} - passed
    adjusted = verdict.model_copy(update={"checks": checks})
    if verdict.outcome != "adopt" or not lost:
        return adjusted
    reason = f"{verdict.reason}; not with Holm's correction for {n_tests} comparisons"
    return adjusted.model_copy(update={"outcome": "reject", "reason": reason})


def _passes(check: Check) -> bool:
    """Whether a check that decides passes, with its adjusted p-value if it has one."""
    is_significant = check.adjusted_p is None or check.adjusted_p <= ALPHA
    return check.role == "decides" and check.passed and is_significant
