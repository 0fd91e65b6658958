"""The verdict of a comparison gate."""

from collections.abc import Sequence

from recsys.evaluation.gates import ComparisonGate
from recsys.evaluation.verdicts.gains import Compared, baselines_by_role, check_gains, names_of
from recsys.evaluation.verdicts.verdict import Outcome, Verdict


def comparison_verdict(name: str, gate: ComparisonGate, candidate: str, compared: Sequence[Compared]) -> Verdict:
    """Adopts if a criterion is met; retries if none is and the gate names another run to try; otherwise rejects.

    Args:
        name: the name of the gate.
        gate: the gate.
        candidate: the evaluated run.
        compared: for each criterion, the comparison with the baseline that is best by the criterion's metric.
    """
    checks, baselines = check_gains(gate.any_of, compared), names_of(compared)
    passed = any(check.passed for check in checks)
    can_retry = gate.retry is not None and gate.retry != candidate
    outcome: Outcome = "adopt" if passed else "retry" if can_retry else "reject"
    reason = {
        "adopt": f"{candidate} reaches the required gain over {baselines}",
        "retry": f"{candidate} does not reach the required gain over {baselines}: {gate.retry} is tried next",
        "reject": f"{candidate} does not reach the required gain over {baselines}",
    }[outcome]
    runs = {"candidate": candidate, **baselines_by_role(gate.any_of, compared)}
    settings = gate.settings if outcome == "adopt" else ()
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=checks, reason=reason, settings=settings)
