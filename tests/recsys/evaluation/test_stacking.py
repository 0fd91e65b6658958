from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from recsys.errors import InputError
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import MetricName, measure, weighted_log_loss
from recsys.evaluation.stack_choice import cross_fit_members
from recsys.evaluation.stack_fitting import fit_stack
from recsys.evaluation.stacking import STACK_METHODS, Stack, StackMethod
from tests.helpers.calibration import uncalibrated

NAMES = ("sharp", "dull", "noise")


@dataclass(frozen=True)
class Members:
    logits: np.ndarray
    label: np.ndarray
    fold: np.ndarray
    log_pos_weight: float


def members(n: int = 20_000, seed: int = 0) -> Members:
    """Two noisy logits of the same truth, and one of pure noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-3, 1, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    views = [truth + rng.normal(0, 0.5, n), truth + rng.normal(0, 1.0, n), rng.normal(-3, 1, n)]
    fold = np.array(["0", "1", "2", "3"])[rng.integers(0, 4, n)]
    return Members(np.stack(views, axis=1), label, fold, float(np.log((label == 0).sum() / (label == 1).sum())))


def test_weights_agree_with_a_grid_search_of_the_lowest_wll() -> None:
    m = members()
    found = fit_stack("weights", NAMES, m.logits, m.label)
    assert sum(found.weights) == pytest.approx(1)
    assert min(found.weights) >= 0
    grid = [(a / 50, b / 50, 1 - (a + b) / 50) for a in range(51) for b in range(51 - a)]
    balanced = m.logits + m.log_pos_weight
    lowest = min(grid, key=lambda w: weighted_log_loss(m.label, balanced @ np.array(w)))
    assert np.allclose(found.weights, lowest, atol=0.03)


def test_logistic_agrees_with_scikit_learn_after_prior_correction() -> None:
    m = members()
    found = fit_stack("logistic", NAMES, m.logits, m.label)
    other = LogisticRegression(class_weight="balanced", C=1e6).fit(m.logits, m.label)
    expected = other.decision_function(m.logits) - m.log_pos_weight
    assert np.allclose(found.natural_logit(m.logits), expected, atol=0.02)


@pytest.mark.parametrize("metric", ["ap", "wll", "toss_score", "roc_auc", "logloss"])
def test_greedy_adds_the_member_that_improves_the_metric_most(metric: MetricName) -> None:
    """A bag of two members has both, so that the selection can be followed by hand."""
    m = members(3000)
    logits = m.logits[:, [0, 2]]

    def value(counts: list[int]) -> float:
        natural = (counts[0] * logits[:, 0] + counts[1] * logits[:, 1]) / sum(counts)
        return measure(m.label, Logits.of_one_fit(natural, m.log_pos_weight)).signed(metric)

    counts = [1, 1]
    while True:
        longer = max(([counts[0] + 1, counts[1]], [counts[0], counts[1] + 1]), key=value)
        if value(longer) <= value(counts) or sum(counts) == 17:
            break
        counts = longer
    found = fit_stack("greedy", NAMES[:2], logits, m.label, metric=metric)
    assert found.weights == pytest.approx([count / sum(counts) for count in counts])
    assert counts[0] > counts[1]  # the second member is noise


def test_greedy_is_no_worse_than_the_best_member() -> None:
    m = members()
    found = fit_stack("greedy", NAMES, m.logits, m.label, metric="ap")
    assert sum(found.weights) == pytest.approx(1)
    ap = average_precision_score(m.label, found.natural_logit(m.logits))
    assert ap >= max(average_precision_score(m.label, column) for column in m.logits.T)


def test_greedy_on_a_sample_of_rows_speaks_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second member has the click rate of a sample with as many clicks as other rows: on all rows it is bad."""
    m = members(20_000)
    logits = np.stack([m.logits[:, 0], m.logits[:, 0] + m.log_pos_weight], axis=1)
    monkeypatch.setattr("recsys.evaluation.greedy_selection._N_ROWS", 1000)
    found = fit_stack("greedy", NAMES[:2], logits, m.label, metric="logloss")
    assert found.weights[0] > 0.8


def test_rank_mean_reads_only_the_order() -> None:
    m = members()
    bent = m.logits.copy()
    bent[:, 0] = np.exp(bent[:, 0])  # another scale, the same order
    straight, other = (fit_stack("rank_mean", NAMES, x, m.label).natural_logit(x) for x in (m.logits, bent))
    assert np.corrcoef(straight, other)[0, 1] > 0.9999
    ranks = np.argsort(np.argsort(m.logits, axis=0), axis=0).mean(axis=1)
    assert np.corrcoef(np.argsort(np.argsort(straight)), np.argsort(np.argsort(ranks)))[0, 1] > 0.9999
    # the mean of p equals the click rate, though ranks have no scale
    assert (1 / (1 + np.exp(-straight))).mean() == pytest.approx(m.label.mean(), rel=0.1)


@pytest.mark.parametrize("method", STACK_METHODS)
def test_serialization_and_row_order_do_not_change_a_stack(method: StackMethod) -> None:
    m = members(2000)
    stack = fit_stack(method, NAMES, m.logits, m.label)
    read = Stack.model_validate_json(stack.model_dump_json())
    expected = stack.natural_logit(m.logits)
    assert np.array_equal(read.natural_logit(m.logits), expected)
    assert np.array_equal(read.natural_logit(m.logits[::-1])[::-1], expected)


@pytest.mark.parametrize("method", STACK_METHODS)
def test_no_row_is_scored_by_its_own_fold(method: StackMethod) -> None:
    """Flipped labels of one fold do not change the scores of that fold."""
    m = members(4000)
    before = cross_fit_members(uncalibrated(NAMES, m.logits, m.label, m.fold), (method,))[method]
    mine = m.fold == "2"
    turned = np.where(mine, 1 - m.label, m.label)
    after = cross_fit_members(uncalibrated(NAMES, m.logits, turned, m.fold), (method,))[method]
    assert np.array_equal(before[mine], after[mine])
    if method != "logit_mean":
        assert not np.array_equal(before[~mine], after[~mine])


def test_stack_has_a_higher_ap_than_the_best_member() -> None:
    m = members()
    joined = cross_fit_members(uncalibrated(NAMES, m.logits, m.label, m.fold), ("logistic",))["logistic"]
    assert average_precision_score(m.label, joined) > average_precision_score(m.label, m.logits[:, 0])


@pytest.mark.parametrize("method", STACK_METHODS)
def test_only_the_mean_needs_no_rows_of_both_classes(method: StackMethod) -> None:
    logits, label = np.random.default_rng(0).normal(size=(50, 2)), np.zeros(50)
    if method == "logit_mean":
        assert fit_stack(method, ("a", "b"), logits, label).weights == (0.5, 0.5)
        return
    with pytest.raises(InputError, match=f"the stack {method} is fitted to 50 rows, 0 of them positive"):
        fit_stack(method, ("a", "b"), logits, label)


@pytest.mark.parametrize(
    ("label", "fold", "expected"),
    [([0, 1, 0, 1], "aabb", True), ([0, 1, 0, 0], "aabb", False), ([0, 1], "aa", False), ([], "", False)],
)
def test_the_other_folds_must_have_rows_of_both_classes(label: list[int], fold: str, expected: bool) -> None:
    assert can_cross_fit(np.array(label), np.array(list(fold))) is expected
