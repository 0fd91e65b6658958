"""The verdict of a distribution gate: the mean of p against the observed rate, and the spread of the logit."""

from dataclasses import dataclass

from recsys.evaluation.gates import DistributionGate
from recsys.evaluation.verdicts.verdict import Check, Verdict

_Z = 1.96


@dataclass(frozen=True)
class Distribution:
    """The distribution of a run's reported predictions, and what they are compared with."""

    observed_rate: float
    """The rate of positives of the same rows, in the scale of p."""
    rate_sd: float
    """The standard error of the observed rate."""
    mean_p: float
    std_p: float
    std_logit: float
    """The standard deviation of the natural logit."""
    reachable_std: float | None
    """That of the reference; None if there is none."""
    reference: str
    """What is known to be reachable: the true probabilities, or an ensemble."""


def distribution_verdict(name: str, gate: DistributionGate, found: Distribution | None) -> Verdict:
    """Adopts if p has the observed mean and the logit a spread near that of the reference.

    The gate's own numbers (`mean`, `mean_tolerance`, `min_std`) are reported as asked and decide nothing: a standard
    deviation of p above a fixed number can be out of reach of the true probabilities themselves.

    Args:
        name: the name of the gate.
        gate: the gate.
        found: the distribution; None if the run is not finished.
    """
    checks = [_check_mean(gate, found), _check_spread(gate, found), *_asked(gate, found)]
    failed = [check.what for check in checks if check.role == "decides" and not check.passed]
    reason = (
        f"out of range: {', '.join(failed)}; {gate.run} cannot be the final model"
        if failed
        else "the mean of p and the spread of the logit are in range"
    )
    if unjudged := [check.what for check in checks if check.role == "not judged"]:
        reason += f"; not judged: {', '.join(unjudged)}"
    return Verdict(
        gate=name, outcome="reject" if failed else "adopt", runs={"run": gate.run}, checks=checks, reason=reason
    )


def _check_mean(gate: DistributionGate, found: Distribution | None) -> Check:
    """The mean of p has to be within `max_bias` of the observed rate, plus the sampling error of this rate."""
    check = Check(what="mean of p", value=None, threshold="the observed rate", passed=False, is_gain=False)
    if found is None:
        return check
    tolerance = gate.max_bias * found.observed_rate + _Z * found.rate_sd
    low, high = found.observed_rate - tolerance, found.observed_rate + tolerance
    threshold = f"{low:.4g} .. {high:.4g} (observed {found.observed_rate:.4g})"
    is_near = low <= found.mean_p <= high
    return check.model_copy(update={"value": found.mean_p, "threshold": threshold, "passed": is_near})


def _check_spread(gate: DistributionGate, found: Distribution | None) -> Check:
    """The standard deviation of the logit has to be near that of the reference."""
    check = Check(
        what="std of the logit, share of the reachable",
        value=None,
        threshold=f"{gate.min_spread:g} .. {gate.max_spread:g}",
        passed=False,
        is_gain=False,
    )
    if found is None:
        return check
    if found.reachable_std is None or found.reachable_std == 0:
        return check.model_copy(update={"role": "not judged", "notes": ("neither truth nor an ensemble is known",)})
    share = found.std_logit / found.reachable_std
    return check.model_copy(
        update={
            "value": share,
            "passed": gate.min_spread <= share <= gate.max_spread,
            "notes": (f"std {found.std_logit:.3g} against {found.reachable_std:.3g} of {found.reference}",),
        }
    )


def _asked(gate: DistributionGate, found: Distribution | None) -> list[Check]:
    """The limits that the plan asks for by number, which are reported."""
    checks = []
    if gate.mean is not None and gate.mean_tolerance is not None:
        low, high = gate.mean - gate.mean_tolerance, gate.mean + gate.mean_tolerance
        is_near = found is not None and low <= found.mean_p <= high
        checks.append(
            ("mean of p, as asked", None if found is None else found.mean_p, f"{low:.4g} .. {high:.4g}", is_near)
        )
    if gate.min_std is not None:
        is_wide = found is not None and found.std_p > gate.min_std
        checks.append(("std of p, as asked", None if found is None else found.std_p, f"> {gate.min_std:g}", is_wide))
    return [
        Check(
            what=what,
            value=value,
            threshold=threshold,
            passed=is_met,
            is_gain=False,
            role="reported",
            notes=("as asked: met" if is_met else "as asked: not met",),
        )
        for what, value, threshold, is_met in checks
    ]
