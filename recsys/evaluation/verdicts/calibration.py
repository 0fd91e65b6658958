"""The verdict of a calibration gate."""

from collections.abc import Mapping

from recsys.evaluation.calibration.calibrator import CalibrationKind
from recsys.evaluation.calibration.gain import CalibrationGain
from recsys.evaluation.gates import CalibrationGate
from recsys.evaluation.shown import TITLES, counted
from recsys.evaluation.verdicts.verdict import Check, Outcome, Verdict


def calibration_verdict(
    name: str, gate: CalibrationGate, chosen: CalibrationKind | None, gains: Mapping[CalibrationKind, CalibrationGain]
) -> Verdict:
    """Adopts the calibration that the run chose; keeps the raw predictions if no gain has an interval above zero.

    Args:
        name: the name of the gate.
        gate: the gate.
        chosen: the kind that the run's reported predictions are calibrated by; None if none was fitted.
        gains: by kind: the loss of raw predictions - that of cross-fitted calibrated ones.
    """
    checks = [
        Check(
            what=f"{TITLES[gain.loss]} gain, {kind.replace('_', ' ')}",
            value=gain.value,
            threshold="interval above zero",
            low=gain.low,
            high=gain.high,
            passed=gain.low > 0,
            basis=counted(gain.n_clusters, gain.by or "cluster"),
        )
        for kind, gain in gains.items()
    ]
    outcome: Outcome
    if chosen is None:
        outcome, reason = "reject", "no calibration was fitted"
    elif chosen == "none":
        outcome, reason = "keep", "no gain over raw predictions has an interval above zero"
    else:
        outcome, reason = "adopt", f"{chosen} has the largest gain"
    return Verdict(gate=name, outcome=outcome, runs={"run": gate.run}, checks=checks, reason=reason)
