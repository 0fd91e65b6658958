import pytest

from recsys.evaluation.gates import CalibrationGate
from recsys.evaluation.metrics import Metrics
from recsys.evaluation.verdicts.calibration import calibration_verdict

GATE = CalibrationGate(kind="calibration", run="r")


def wll(value: float | None) -> Metrics:
    return Metrics(n_rows=10, n_positive=1, wll=value)


def test_calibration_is_adopted_only_below_the_raw_wll() -> None:
    figures = {"none": wll(0.6), "temperature": wll(0.59), "isotonic": wll(0.595)}
    found = calibration_verdict("c", GATE, figures)
    assert found.outcome == "adopt"
    assert found.reason == "temperature has the lowest WLL"
    assert [check.value for check in found.checks] == [pytest.approx(0.01), pytest.approx(0.005)]
    kept = calibration_verdict("c", GATE, figures | {"none": wll(0.59), "isotonic": wll(0.6)})
    assert (kept.outcome, kept.is_adopted) == ("keep", True)
    assert kept.reason == "raw predictions are already the best"
    assert [kept.result_of(check) for check in kept.checks] == ["kept", "kept"]
    assert [found.result_of(check) for check in found.checks] == ["pass", "pass"]


def test_missing_values_are_rejected() -> None:
    assert calibration_verdict("c", GATE, {}).outcome == "reject"
    for figures in ({"none": wll(None), "isotonic": wll(0.5)}, {"isotonic": wll(0.5)}):
        assert calibration_verdict("c", GATE, figures).outcome == "reject"
