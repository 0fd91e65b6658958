from recsys.evaluation.gates import Criterion, SegmentGate
from recsys.evaluation.verdicts.gains import Compared
from recsys.evaluation.verdicts.segments import segment_verdict
from tests.helpers.differences import compared, difference

GATE = SegmentGate(
    kind="segments",
    candidate="din",
    baselines=("dcnv2",),
    segmentation="user",
    any_of=(Criterion(metric="ap", gain=0),),
)
BETTER, SAME, WORSE = ([compared("dcnv2", ap=difference(0.08, 0.08 + d, 0.002))] for d in (0.004, 0.001, -0.004))
ONE_CLASS = [Compared("dcnv2", None, is_one_class=True)]


def test_a_gain_and_no_loss() -> None:
    assert segment_verdict("D", GATE, {"new": SAME, "returning": BETTER}).outcome == "adopt"
    assert segment_verdict("D", GATE, {"new": SAME, "returning": SAME}).outcome == "reject"
    refused = segment_verdict("D", GATE, {"new": WORSE, "returning": BETTER})
    assert refused.outcome == "reject"
    assert "is worse than dcnv2: AP gain, new" in refused.reason


def test_a_segment_of_one_class_is_listed_as_not_judged() -> None:
    verdict = segment_verdict("D", GATE, {"new": ONE_CLASS, "returning": BETTER})
    assert verdict.outcome == "adopt"
    assert "not judged: AP gain, new" in verdict.reason
    new, returning = verdict.checks
    assert (verdict.result_of(new), new.value_text, new.basis_text) == (
        "not judged",
        "not judged",
        "one class: not judged",
    )
    assert verdict.result_of(returning) == "pass"
    assert verdict.n_looks == 1
    assert segment_verdict("D", GATE, {"new": ONE_CLASS, "returning": SAME}).outcome == "reject"
    assert segment_verdict("D", GATE, {"new": ONE_CLASS}).outcome == "reject"


def test_a_segment_with_few_clusters_is_noted_as_rough() -> None:
    few = [compared("dcnv2", n_clusters=9, ap=difference(0.08, 0.09, 0.001))]
    check, _ = segment_verdict("D", GATE, {"new": few, "returning": SAME}).checks
    assert "rough intervals, from 9 users" in check.basis_text


def test_missing_runs_are_rejected() -> None:
    assert segment_verdict("D", GATE, {"all": [Compared("dcnv2", None)]}).outcome == "reject"
