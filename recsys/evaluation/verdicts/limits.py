"""The verdicts of latency and memory gates: one measured number and its limit."""

from recsys.evaluation.gates import LatencyGate, MemoryGate
from recsys.evaluation.verdicts.verdict import Check, Verdict


def latency_verdict(name: str, gate: LatencyGate, p99_ms: float | None, of: str | None = None) -> Verdict:
    """Adopts if a request is scored within the limit.

    Args:
        name: the name of the gate.
        gate: the gate.
        p99_ms: the 99th percentile of the time of a request, in milliseconds; None if the run is not finished.
        of: what answered; None for what the gate names.
    """
    what = f"p99 of a request of {gate.n_candidates:,} candidates to the {of or gate.of}, ms"
    return _verdict(name, gate.run, what, p99_ms, gate.max_ms)


def memory_verdict(name: str, gate: MemoryGate, peak_gib: float | None, of: str | None = None) -> Verdict:
    """Adopts if the peak memory is within the limit.

    Args:
        name: the name of the gate.
        gate: the gate.
        peak_gib: in GiB; None if the run is not finished.
        of: whose memory it is; None for what the gate names.
    """
    return _verdict(name, gate.run, f"peak memory of {gate.of}, {gate.device}, GiB", peak_gib, gate.max_gib)


def _verdict(name: str, run: str, what: str, value: float | None, limit: float) -> Verdict:
    passed = value is not None and value <= limit
    check = Check(what=what, value=value, threshold=f"<= {limit:g}", passed=passed, is_gain=False)
    reason = f"{run} is within the limit" if passed else f"{run} exceeds the limit and cannot be the final model"
    if value is None:
        reason = f"{run} is not finished: nothing was measured"
    return Verdict(gate=name, outcome="adopt" if passed else "reject", runs={"run": run}, checks=[check], reason=reason)
