from typing import Literal

import pytest

from recsys.evaluation.calibration.gain import CalibrationGain
from recsys.evaluation.gates import CalibrationGate
from recsys.evaluation.verdicts.calibration import calibration_verdict

GATE = CalibrationGate(kind="calibration", run="r")


def gain(value: float, by: Literal["row", "user"] | None = "user") -> CalibrationGain:
    return CalibrationGain(loss="wll", value=value, standard_error=0.001, n_clusters=1215, by=by)


def test_the_chosen_calibration_is_adopted() -> None:
    found = calibration_verdict("c", GATE, "platt", {"temperature": gain(0.001), "platt": gain(0.01)})
    assert (found.outcome, found.reason) == ("adopt", "platt has the largest gain")
    assert [found.result_of(check) for check in found.checks] == ["fail", "pass"]  # .001 +- .00196 includes zero
    assert found.checks[1].basis_text == "1,215 users"


@pytest.mark.parametrize(("by", "basis"), [("row", "1,215 rows"), (None, "1,215 clusters")])
def test_the_interval_is_over_rows_where_the_data_names_no_users(by: Literal["row", "user"] | None, basis: str) -> None:
    found = calibration_verdict("c", GATE, "platt", {"platt": gain(0.01, by)})
    assert found.checks[0].basis_text == basis


def test_raw_predictions_are_kept_without_a_clear_gain() -> None:
    kept = calibration_verdict("c", GATE, "none", {"temperature": gain(0.001), "platt": gain(-0.01)})
    assert (kept.outcome, kept.is_adopted) == ("keep", True)
    assert [kept.result_of(check) for check in kept.checks] == ["kept", "kept"]


def test_a_run_without_calibration_is_rejected() -> None:
    assert calibration_verdict("c", GATE, None, {}).outcome == "reject"
