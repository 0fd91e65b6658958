import pytest
from pydantic import TypeAdapter, ValidationError

from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import (
    CalibrationGate,
    ComparisonGate,
    Criterion,
    DistributionGate,
    Gate,
    RetrievalGate,
    SegmentGate,
)
from recsys.evaluation.metrics import Metrics
from recsys.evaluation.verdicts import (
    Check,
    best_run,
    calibration_verdict,
    check_gain,
    comparison_verdict,
    distribution_verdict,
    retrieval_verdict,
    segment_verdict,
)


def difference(first: float, second: float, half_width: float) -> Difference:
    d = second - first
    return Difference(first=first, second=second, difference=d, low=d - half_width, high=d + half_width)


def gate_a(retry: str | None = None) -> ComparisonGate:
    return ComparisonGate(
        kind="comparison",
        candidate="dcnv2",
        baselines=("gbdt",),
        any_of=(Criterion(metric="ap", gain=0.010), Criterion(metric="wll", relative_gain=0.02)),
        retry=retry,
        settings=("trainer.epochs=2",),
    )


def gate_d() -> SegmentGate:
    gain = Criterion(metric="ap", gain=0)
    return SegmentGate(kind="segments", candidate="din", baselines=("dcnv2",), segmentation="user", any_of=(gain,))


@pytest.mark.parametrize(
    ("ap", "wll", "outcome"),
    [
        (difference(0.080, 0.0905, 0.004), difference(0.60, 0.61, 0.004), "adopt"),  # by AP
        (difference(0.080, 0.0880, 0.004), difference(0.60, 0.587, 0.004), "adopt"),  # by WLL: -2.2 %
        (difference(0.080, 0.0895, 0.004), difference(0.60, 0.589, 0.004), "reject"),  # +.0095 and -1.8 %
        (difference(0.080, 0.0905, 0.012), difference(0.60, 0.587, 0.014), "reject"),  # the intervals include 0
        (difference(0.080, 0.0600, 0.001), difference(0.60, 0.620, 0.001), "reject"),
    ],
)
def test_a_comparison_by_hand(ap: Difference, wll: Difference, outcome: str) -> None:
    verdict = comparison_verdict("A", gate_a(), "dcnv2", "gbdt", {"ap": ap, "wll": wll})
    assert verdict.outcome == outcome
    assert verdict.runs == {"candidate": "dcnv2", "baseline": "gbdt"}
    assert verdict.settings == (("trainer.epochs=2",) if outcome == "adopt" else ())


def test_gain_in_wll_is_the_negative_difference() -> None:
    check = check_gain(Criterion(metric="wll", relative_gain=0.02), {"wll": difference(0.6, 0.585, 0.003)})
    assert check.value == pytest.approx(0.025)
    assert (check.low, check.high) == (pytest.approx(0.02), pytest.approx(0.03))
    assert check.passed


def test_reported_interval_does_not_decide() -> None:
    loose, strict = (Criterion(metric="toss_score", gain=0, interval=i) for i in ("reported", "above_zero"))
    found = {"toss_score": difference(0.35, 0.3501, 0.001)}
    assert check_gain(loose, found).passed
    assert not check_gain(strict, found).passed


def test_failed_candidate_has_one_retry() -> None:
    gate, worse = gate_a(retry="dcnv2-features"), {"ap": difference(0.08, 0.07, 0.01), "wll": difference(0.6, 0.6, 0.1)}
    first = comparison_verdict("A", gate, "dcnv2", "gbdt", worse)
    assert first.outcome == "retry"
    assert "dcnv2-features is tried" in first.reason
    assert comparison_verdict("A", gate, "dcnv2-features", "gbdt", worse).outcome == "reject"


def wll(value: float | None) -> Metrics:
    return Metrics(n_rows=10, n_positive=1, wll=value)


def test_gates_reject_missing_values() -> None:
    nan = float("nan")
    missing = [None, {}, {"ap": Difference(first=0.1, second=nan, difference=nan, low=nan, high=nan)}]
    for found in missing:
        verdict = comparison_verdict("A", gate_a(), "dcnv2", "gbdt", found)
        assert verdict.outcome == "reject"
        assert [check.value for check in verdict.checks] == [None, None]
    segments = gate_d()
    assert segment_verdict("D", segments, "dcnv2", {"new": None, "returning": None}).outcome == "reject"
    spread = DistributionGate(kind="distribution", run="r", mean=0.0191, mean_tolerance=0.005, min_std=0.05)
    assert distribution_verdict("d", spread, {}).outcome == "reject"
    assert distribution_verdict("d", spread, {"p": {"mean": 0.019}}).outcome == "reject"
    calibration = CalibrationGate(kind="calibration", run="r")
    assert calibration_verdict("c", calibration, {}).outcome == "reject"
    for figures in ({"none": wll(None), "isotonic": wll(0.5)}, {"isotonic": wll(0.5)}):
        assert calibration_verdict("c", calibration, figures).outcome == "reject"


def test_segment_gate_needs_a_gain_and_no_loss() -> None:
    gate = gate_d()
    better, same, worse = ({"ap": difference(0.08, 0.08 + d, 0.002)} for d in (0.004, 0.001, -0.004))
    assert segment_verdict("D", gate, "dcnv2", {"new": same, "returning": better}).outcome == "adopt"
    assert segment_verdict("D", gate, "dcnv2", {"new": same, "returning": same}).outcome == "reject"
    refused = segment_verdict("D", gate, "dcnv2", {"new": worse, "returning": better})
    assert refused.outcome == "reject"
    assert "is worse than dcnv2: ap gain, new" in refused.reason


def test_retrieval_gate_needs_a_gain_in_recall_and_in_ranking() -> None:
    gate = RetrievalGate(
        kind="retrieval",
        retrieval="towers",
        recall_at=100,
        candidate="with",
        baselines=("without",),
        any_of=(Criterion(metric="ap", gain=0),),
    )
    better, same = ({"ap": difference(0.08, 0.08 + d, 0.002)} for d in (0.004, 0.001))
    assert retrieval_verdict("E", gate, "without", 0.6, 0.5, better).outcome == "adopt"
    assert retrieval_verdict("E", gate, "without", 0.6, 0.5, same).outcome == "reject"
    assert retrieval_verdict("E", gate, "without", 0.5, None, better).outcome == "reject"
    assert retrieval_verdict("E", gate, "without", 0.5, 0.6, better).outcome == "reject"
    by_a_tenth = gate.model_copy(update={"recall_gain": 0.1})
    assert retrieval_verdict("E", by_a_tenth, "without", 0.62, 0.5, better).outcome == "adopt"
    assert retrieval_verdict("E", by_a_tenth, "without", 0.58, 0.5, better).outcome == "reject"


def test_distribution_gate_checks_p_and_reports_both_scales() -> None:
    gate = DistributionGate(kind="distribution", run="r", mean=0.0191, mean_tolerance=0.005, min_std=0.05)
    q = {"mean": 0.42, "std": 0.18}
    narrow = distribution_verdict("d", gate, {"p": {"mean": 0.0193, "std": 0.0235}, "q": q})
    assert narrow.outcome == "reject"
    assert [check.passed for check in narrow.checks] == [True, False, False, True]
    assert distribution_verdict("d", gate, {"p": {"mean": 0.0193, "std": 0.06}, "q": q}).outcome == "adopt"
    assert distribution_verdict("d", gate, {"p": {"mean": 0.0250, "std": 0.06}, "q": q}).outcome == "reject"


def test_calibration_is_adopted_only_below_the_raw_wll() -> None:
    gate = CalibrationGate(kind="calibration", run="r")
    figures = {"none": wll(0.6), "temperature": wll(0.59), "isotonic": wll(0.595)}
    found = calibration_verdict("c", gate, figures)
    assert found.outcome == "adopt"
    assert found.reason == "temperature has the lowest WLL"
    assert [check.value for check in found.checks] == [pytest.approx(0.01), pytest.approx(0.005)]
    kept = calibration_verdict("c", gate, figures | {"none": wll(0.59), "isotonic": wll(0.6)})
    assert (kept.outcome, kept.is_adopted) == ("keep", True)
    assert kept.reason == "raw predictions are already the best"
    assert [kept.result_of(check) for check in kept.checks] == ["kept", "kept"]
    assert [found.result_of(check) for check in found.checks] == ["pass", "pass"]


def test_digits_of_a_check_by_hand() -> None:
    """The interval -0.002 .. 0.014 has a standard deviation of 0.016 / 3.92 = 0.0041: four decimals."""
    check = Check(what="ap gain", value=0.0061234, threshold=">= 0", low=-0.002, high=0.014, passed=False)
    assert (check.value_text, check.interval_text) == ("+0.0061", "-0.0020 .. +0.0140")
    wide = check.model_copy(update={"low": -0.2, "high": 0.3})
    assert (wide.value_text, wide.interval_text) == ("+0.01", "-0.20 .. +0.30")
    assert check.model_copy(update={"value": None}).value_text == "missing"
    assert Check(what="mean of p", value=0.01931, threshold="", passed=True, is_gain=False).value_text == "0.0193"


def test_a_criterion_takes_one_threshold() -> None:
    adapter: TypeAdapter[Gate] = TypeAdapter(Gate)
    plain = gate_a().model_dump(mode="json")
    assert adapter.validate_python(plain) == gate_a()
    for wrong in ({"metric": "ap"}, {"metric": "ap", "gain": 0.1, "relative_gain": 0.1}):
        with pytest.raises(ValidationError, match="takes gain or relative_gain"):
            adapter.validate_python(plain | {"any_of": [wrong]})


def test_best_run_skips_runs_without_a_score() -> None:
    assert best_run({"a": 0.3, "b": None, "c": 0.31}, ["a", "b", "c"]) == "c"
    assert best_run({"b": None}, ["b"]) is None


def test_a_gain_relative_to_zero_is_missing() -> None:
    criterion = Criterion(metric="roc_auc", relative_gain=0.1)
    check = check_gain(criterion, {"roc_auc": difference(0.0, 0.5, 0.01)})
    assert (check.value, check.passed) == (None, False)
    assert check_gain(Criterion(metric="roc_auc", gain=0.1), {"roc_auc": difference(0.0, 0.5, 0.01)}).passed
