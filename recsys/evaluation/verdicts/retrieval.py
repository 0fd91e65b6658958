"""The verdict of a retrieval gate."""

from collections.abc import Sequence

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.gates import RetrievalGate
from recsys.evaluation.verdicts.gains import Compared, baselines_by_role, basis_of, check_gains, names_of
from recsys.evaluation.verdicts.verdict import Check, Outcome, Verdict


def retrieval_verdict(
    name: str,
    gate: RetrievalGate,
    over: str,
    recall: Comparison | None,
    compared: Sequence[Compared],
) -> Verdict:
    """Adopts if recall increases and the ranker that uses the retrieval score is better than the one without it.

    Args:
        name: the name of the gate.
        gate: the gate.
        over: the ranking of items that the towers are compared with.
        recall: towers - `over` on the same requests, with the metric recall@K; None if it was not measured.
        compared: for each criterion, the ranker with the score compared with the best ranker without it.
    """
    key = f"recall@{gate.recall_at}"
    recall_check = _check_recall(key, gate, over, recall)
    gains = check_gains(gate.any_of, compared)
    is_better = any(check.passed for check in gains)
    reason = (
        f"recall {'increases' if recall_check.passed else 'does not increase'}, "
        f"ranking {'improves' if is_better else 'does not improve'} ({gate.candidate} against {names_of(compared)})"
    )
    runs = {"retrieval": gate.retrieval, "candidate": gate.candidate, **baselines_by_role(gate.any_of, compared)}
    outcome: Outcome = "adopt" if recall_check.passed and is_better else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=[recall_check, *gains], reason=reason)


def _check_recall(key: str, gate: RetrievalGate, over: str, recall: Comparison | None) -> Check:
    """Checks whether the difference of recall exceeds the gate's gain, with an interval above it."""
    check = Check(
        what=f"{key} over {over}",
        value=None,
        threshold=f"> {gate.recall_gain:+g}, interval above zero",
        passed=False,
        requirement="recall",
        baseline=over,
    )
    difference = None if recall is None else recall.differences.get(key)
    if recall is None or difference is None:
        return check
    return check.model_copy(
        update={
            "value": difference.difference,
            "low": difference.low,
            "high": difference.high,
            "passed": difference.difference > gate.recall_gain and difference.low > 0,
            "basis": basis_of(recall),
            "p_value": difference.p_value,
            "is_look": True,
            "notes": (recall.note,) if recall.note else (),
        }
    )
