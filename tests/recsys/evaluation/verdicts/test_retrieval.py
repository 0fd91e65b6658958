from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import Criterion, RetrievalGate
from recsys.evaluation.verdicts.gains import Compared
from recsys.evaluation.verdicts.retrieval import retrieval_verdict
from recsys.evaluation.verdicts.verdict import Verdict
from tests.helpers.differences import compared, difference

GATE = RetrievalGate(
    kind="retrieval",
    retrieval="towers",
    recall_at=100,
    candidate="with",
    baselines=("without",),
    any_of=(Criterion(metric="ap", gain=0),),
)
BETTER, SAME = (compared("without", ap=difference(0.08, 0.08 + d, 0.002)) for d in (0.004, 0.001))


def verdict_of(recall: Difference | None, ranking: Compared, gate: RetrievalGate = GATE) -> Verdict:
    return retrieval_verdict("E", gate, "recent", recall, "2,463 requests", (), [ranking])


def test_a_gain_in_recall_and_in_ranking() -> None:
    gain, loss = difference(0.5, 0.6, 0.05), difference(0.6, 0.5, 0.05)
    assert verdict_of(gain, BETTER).outcome == "adopt"
    assert verdict_of(gain, SAME).outcome == "reject"
    assert verdict_of(None, BETTER).outcome == "reject"
    assert verdict_of(loss, BETTER).outcome == "reject"
    check = verdict_of(gain, BETTER).checks[0]
    assert (check.what, check.baseline, check.basis_text) == ("recall@100 over recent", "recent", "2,463 requests")


def test_a_gain_in_recall_needs_an_interval_above_zero() -> None:
    within_noise = difference(0.5, 0.6, 0.11)
    assert verdict_of(within_noise, BETTER).outcome == "reject"
    reported = GATE.model_copy(update={"recall_interval": "reported"})
    assert verdict_of(within_noise, BETTER, reported).outcome == "adopt"


def test_the_required_gain_in_recall() -> None:
    by_a_tenth = GATE.model_copy(update={"recall_gain": 0.1})
    assert verdict_of(difference(0.5, 0.62, 0.05), BETTER, by_a_tenth).outcome == "adopt"
    assert verdict_of(difference(0.5, 0.58, 0.05), BETTER, by_a_tenth).outcome == "reject"
