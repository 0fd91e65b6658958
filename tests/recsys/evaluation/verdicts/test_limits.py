import pytest
from pydantic import ValidationError

from recsys.evaluation.gates import LatencyGate, MemoryGate
from recsys.evaluation.verdicts.limits import latency_verdict, memory_verdict

LATENCY = LatencyGate(kind="latency", run="dcnv2", max_ms=20, n_candidates=100)
MEMORY = MemoryGate(kind="memory", run="dcnv2", max_gib=2, of="training")


def test_a_limit_by_hand() -> None:
    within, above = latency_verdict("l", LATENCY, 19.5), latency_verdict("l", LATENCY, 20.5)
    assert (within.outcome, above.outcome) == ("adopt", "reject")
    assert within.checks[0].what == "p99 of a request of 100 candidates to the bundle, ms"
    assert latency_verdict("l", LATENCY, 1, "run").checks[0].what == "p99 of a request of 100 candidates to the run, ms"
    assert above.checks[0].threshold == "<= 20"
    assert "cannot be the final model" in above.reason
    assert memory_verdict("m", MEMORY, 1.9).outcome == "adopt"
    assert memory_verdict("m", MEMORY, 2.1).outcome == "reject"


def test_a_missing_measurement_is_rejected() -> None:
    for verdict in (latency_verdict("l", LATENCY, None), memory_verdict("m", MEMORY, None)):
        assert verdict.outcome == "reject"
        assert "nothing was measured" in verdict.reason
        assert verdict.n_looks == 0


def test_a_bundle_uses_no_gpu() -> None:
    with pytest.raises(ValidationError, match="a bundle is scored on the CPU"):
        MemoryGate(kind="memory", run="dcnv2", max_gib=2, device="gpu")
