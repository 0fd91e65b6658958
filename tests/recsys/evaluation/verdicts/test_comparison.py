import pytest
from pydantic import TypeAdapter, ValidationError

from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import ComparisonGate, Criterion, Gate
from recsys.evaluation.verdicts.comparison import comparison_verdict
from recsys.evaluation.verdicts.gains import Compared, check_gain
from recsys.evaluation.verdicts.verdict import Check, best_run
from tests.helpers.differences import compared, difference


def gate_a(retry: str | None = None) -> ComparisonGate:
    return ComparisonGate(
        kind="comparison",
        candidate="dcnv2",
        baselines=("gbdt", "dart"),
        any_of=(Criterion(metric="ap", gain=0.010), Criterion(metric="wll", relative_gain=0.02)),
        retry=retry,
        settings=("trainer.epochs=2",),
    )


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
    verdict = comparison_verdict("A", gate_a(), "dcnv2", [compared(ap=ap, wll=wll)] * 2)
    assert verdict.outcome == outcome
    assert verdict.runs == {"candidate": "dcnv2", "baseline": "gbdt"}
    assert verdict.settings == (("trainer.epochs=2",) if outcome == "adopt" else ())
    assert verdict.n_looks == 2


def test_each_criterion_has_its_own_baseline() -> None:
    """gbdt is best by AP, dart by WLL: a gain over the worse of them in a metric is no gain."""
    over_gbdt = compared("gbdt", ap=difference(0.08, 0.085, 0.001), wll=difference(0.60, 0.58, 0.001))
    over_dart = compared("dart", ap=difference(0.06, 0.085, 0.001), wll=difference(0.58, 0.58, 0.001))
    verdict = comparison_verdict("A", gate_a(), "dcnv2", [over_gbdt, over_dart])
    assert verdict.outcome == "reject"
    assert verdict.runs == {"candidate": "dcnv2", "baseline (ap)": "gbdt", "baseline (wll)": "dart"}
    assert [check.baseline for check in verdict.checks] == ["gbdt", "dart"]
    one_baseline = comparison_verdict("A", gate_a(), "dcnv2", [over_gbdt, over_gbdt])
    assert one_baseline.outcome == "adopt"  # by WLL, over the run that is worse by WLL


def test_gain_in_wll_is_the_negative_difference() -> None:
    criterion = Criterion(metric="wll", relative_gain=0.02)
    check = check_gain(criterion, compared(wll=difference(0.6, 0.585, 0.003)))
    assert check.value == pytest.approx(0.025)
    assert (check.low, check.high) == (pytest.approx(0.02), pytest.approx(0.03))
    assert check.passed


def test_reported_interval_does_not_decide() -> None:
    loose, strict = (Criterion(metric="toss_score", gain=0, interval=i) for i in ("reported", "above_zero"))
    found = compared(toss_score=difference(0.35, 0.3501, 0.001, p_value=0.8))
    assert check_gain(loose, found).passed
    assert check_gain(loose, found).p_value is None  # no test is made
    assert not check_gain(strict, found).passed
    assert check_gain(strict, found).p_value == 0.8


def test_a_check_says_what_its_interval_is_drawn_over() -> None:
    criterion, ap = Criterion(metric="ap", gain=0), difference(0.08, 0.09, 0.001)
    check = check_gain(criterion, compared(n_clusters=1215, n_seeds=(3, 3), ap=ap))
    assert check.basis_text == "1,215 users, 3 seeds each"
    rough = check_gain(criterion, compared(n_clusters=12, n_seeds=(1, 3), ap=ap))
    assert rough.basis_text.startswith("12 users, 3 against 1 seeds; rough intervals, from 12 users")
    noted = check_gain(criterion, Compared("gbdt", compared(ap=ap).comparison, notes=("chosen on reported rows",)))
    assert noted.basis_text == "1,000 users, 1 seed each; chosen on reported rows"


def test_failed_candidate_has_one_retry() -> None:
    gate = gate_a(retry="dcnv2-features")
    worse = [compared(ap=difference(0.08, 0.07, 0.01), wll=difference(0.6, 0.6, 0.1))] * 2
    first = comparison_verdict("A", gate, "dcnv2", worse)
    assert first.outcome == "retry"
    assert "dcnv2-features is tried" in first.reason
    assert comparison_verdict("A", gate, "dcnv2-features", worse).outcome == "reject"


def test_missing_values_are_rejected() -> None:
    nan = float("nan")
    undefined = Difference(first=0.1, second=nan, difference=nan, low=nan, high=nan)
    for missing in (Compared("gbdt", None), compared(), compared(ap=undefined, wll=undefined)):
        verdict = comparison_verdict("A", gate_a(), "dcnv2", [missing] * 2)
        assert verdict.outcome == "reject"
        assert [check.value for check in verdict.checks] == [None, None]
        assert verdict.n_looks == 0


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
    found = compared(roc_auc=difference(0.0, 0.5, 0.01))
    check = check_gain(Criterion(metric="roc_auc", relative_gain=0.1), found)
    assert (check.value, check.passed) == (None, False)
    assert check_gain(Criterion(metric="roc_auc", gain=0.1), found).passed
