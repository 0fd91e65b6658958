"""The verdict of a segment gate."""

from collections.abc import Mapping, Sequence

from recsys.evaluation.gates import SegmentGate
from recsys.evaluation.verdicts.gains import Compared, baselines_by_role, check_gain, names_of
from recsys.evaluation.verdicts.verdict import Outcome, Verdict


def segment_verdict(name: str, gate: SegmentGate, by_segment: Mapping[str, Sequence[Compared]]) -> Verdict:
    """Adopts if a criterion is met in a segment and no segment's interval lies below zero.

    A segment whose rows have one class is listed as not judged: it neither passes nor fails.

    Args:
        name: the name of the gate.
        gate: the gate.
        by_segment: by segment label, for each criterion: the comparison with the criterion's baseline.
    """
    checks = [
        check_gain(criterion, compared[number], label)
        for number, criterion in enumerate(gate.any_of)
        for label, compared in by_segment.items()
    ]
    first = next(iter(by_segment.values()))
    baselines = names_of(first)
    worse = [check.what for check in checks if check.high is not None and check.high < 0]
    gains = [check.what for check in checks if check.passed]
    if worse:
        reason = f"{gate.candidate} is worse than {baselines}: {', '.join(worse)}"
    elif gains:
        reason = f"{gate.candidate} is better than {baselines}: {', '.join(gains)}"
    else:
        reason = f"{gate.candidate} is not better than {baselines} in any segment"
    if unjudged := list(dict.fromkeys(check.what for check in checks if check.role == "not judged")):
        reason += f"; not judged: {', '.join(unjudged)}"
    runs = {"candidate": gate.candidate, **baselines_by_role(gate.any_of, first)}
    outcome: Outcome = "adopt" if gains and not worse else "reject"
    return Verdict(gate=name, outcome=outcome, runs=runs, checks=checks, reason=reason)
