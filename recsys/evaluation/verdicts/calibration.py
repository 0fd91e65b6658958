"""The verdict of a calibration gate."""

from collections.abc import Mapping

from recsys.evaluation.calibration import CalibrationKind
from recsys.evaluation.gates import CalibrationGate
from recsys.evaluation.metrics import Metrics
from recsys.evaluation.verdicts.verdict import Check, Outcome, Verdict


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
