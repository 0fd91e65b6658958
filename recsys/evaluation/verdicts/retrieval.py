"""The verdict of a retrieval gate."""

from collections.abc import Sequence

from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import RetrievalGate
from recsys.evaluation.verdicts.gains import Compared, baselines_by_role, check_gains, names_of
from recsys.evaluation.verdicts.verdict import Check, Outcome, Verdict


def retrieval_verdict(
    name: str,
    gate: RetrievalGate,
    over: str,
    recall: Difference | None,
    basis: str,
    notes: tuple[str, ...],
    compared: Sequence[Compared],
) -> Verdict:
    """Adopts if recall increases and the ranker that uses the retrieval score is better than the one without it.

    Args:
        name: the name of the gate.
        gate: the gate.
        over: the ranking of items that the towers are compared with.
        recall: recall@K of the towers - that of `over`, on the same requests; None if it was not measured.
        basis: what the interval of `recall` is drawn over.
        notes: limits of this interval.
        compared: for each criterion, the ranker with the score compared with the best ranker without it.
    """
    recall_check = _check_recall(gate, over, recall, basis, notes)
    gains = check_gains(gate.any_of, compared)
    is_better = any(check.passed for check in gains)
    reason = (
        f"recall {'increases' if recall_check.passed else 'does not increase'}, "
        f"ranking {'improves' if is_better else 'does not improve'} ({gate.candidate} against {names_of(compared)})"
    )
    runs = {"retrieval": gate.retrieval, "candidate": gate.candidate, **baselines_by_role(gate.any_of, compared)}
    outcome: Outcome = "adopt" if recall_check.passed and is_better else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=[recall_check, *gains], reason=reason)


def _check_recall(
    gate: RetrievalGate, over: str, recall: Difference | None, basis: str, notes: tuple[str, ...]
) -> Check:
    """Checks whether the difference of recall exceeds the gate's gain, with an interval above it."""
    needs_interval = gate.recall_interval == "above_zero"
    check = Check(
        what=f"recall@{gate.recall_at} over {over}",
        value=None,
        threshold=f"> {gate.recall_gain:+g}{', interval above zero' if needs_interval else ''}",
        passed=False,
        requirement="recall",
        baseline=over,
    )
    if recall is None:
        return check
    return check.model_copy(
        update={
            "value": recall.difference,
            "low": recall.low,
            "high": recall.high,
            "passed": recall.difference > gate.recall_gain and (not needs_interval or recall.low > 0),
            "basis": basis,
            "p_value": recall.p_value if needs_interval else None,
            "is_look": True,
            "notes": notes,
        }
    )
