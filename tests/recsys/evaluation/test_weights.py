"""Weights of rows: whole weights equal repeated rows, and scikit-learn's `sample_weight` is the reference."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, average_precision_score, log_loss, precision_recall_curve, roc_auc_score

import recsys.evaluation.bootstrap.ranking
from recsys.errors import InputError
from recsys.evaluation.bootstrap.draws import Resampling
from recsys.evaluation.calibration.calibrator import CALIBRATIONS, CalibrationKind
from recsys.evaluation.calibration.choice import calibrate, calibrate_one_fit
from recsys.evaluation.calibration.fitting import fit_calibrator
from recsys.evaluation.comparison import COMPARED, paired_bootstrap
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import Logits, log_pos_weight_of, probability
from recsys.evaluation.metrics import effective_size, measure
from recsys.evaluation.stack_choice import cross_fit_members
from recsys.evaluation.stack_fitting import fit_stack
from recsys.evaluation.stacking import StackMethod
from tests.helpers.calibration import held_out, uncalibrated

SHIFT = 1.5


def draw(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Natural logits with ties, labels, and whole weights from 0 to 3 that depend on the label."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1.5, 1.2, n)
    label = (rng.random(n) < probability(true)).astype(np.int8)
    weight = rng.integers(0, 3, n) + label
    return np.round(true + rng.normal(size=n), 2), label, weight.astype(np.float32)


def repeated(*columns: np.ndarray) -> list[np.ndarray]:
    """The columns with each row as often as the last column says; without that column."""
    *values, weight = columns
    return [np.repeat(column, weight.astype(int)) for column in values]


def test_whole_weights_equal_repeated_rows_in_every_metric() -> None:
    natural, label, weight = draw()
    found = measure(label, Logits.of_one_fit(natural, SHIFT), weight)
    many_natural, many_label = repeated(natural, label, weight)
    expected = measure(many_label, Logits.of_one_fit(many_natural, SHIFT))
    assert found.defined() == pytest.approx(expected.defined(), rel=1e-9)
    assert (found.n_rows, found.n_positive) == (4000, int(label.sum()))
    assert expected.n_effective is None
    assert "n_effective" not in expected.model_dump()


def test_metrics_agree_with_scikit_learn_for_any_weights() -> None:
    natural, label, _ = draw(seed=1)
    weight = np.random.default_rng(2).exponential(size=len(label)).astype(np.float32)
    found = measure(label, Logits.of_one_fit(natural, SHIFT), weight)
    w = weight.astype(np.float64)
    assert found.ap == pytest.approx(average_precision_score(label, natural, sample_weight=w))
    assert found.roc_auc == pytest.approx(roc_auc_score(label, natural, sample_weight=w))
    precision, recall, _ = precision_recall_curve(label, natural, sample_weight=w)
    assert found.pr_auc == pytest.approx(auc(recall, precision))
    assert found.logloss == pytest.approx(log_loss(label, probability(natural), sample_weight=w))
    balanced = np.where(label == 1, w / w[label == 1].sum(), w / w[label == 0].sum())
    assert found.wll == pytest.approx(log_loss(label, probability(natural + SHIFT), sample_weight=balanced))
    assert found.toss_score == pytest.approx(0.5 * found.ap + 0.5 / (1 + found.wll))
    assert found.n_effective == pytest.approx(w.sum() ** 2 / (w**2).sum())


def test_effective_size_by_hand() -> None:
    assert effective_size(np.array([1.0, 1.0, 1.0, 3.0])) == pytest.approx(36 / 12)
    assert effective_size(np.array([0.0, 5.0])) == 1
    assert effective_size(np.zeros(3)) == 0


def test_scale_of_weights_changes_nothing() -> None:
    natural, label, weight = draw(1000)
    logits = Logits.of_one_fit(natural, SHIFT)
    one, other = (measure(label, logits, scale * weight) for scale in (1, 1e-3))
    assert other.defined() == pytest.approx(one.defined())
    assert other.n_effective == pytest.approx(one.n_effective)
    for kind in CALIBRATIONS[1:]:
        a, b = (fit_calibrator(kind, natural, label, scale * weight).natural_logit(natural) for scale in (1, 1e-3))
        assert np.allclose(a, b, atol=1e-5), kind


def test_rows_of_weight_zero_do_not_count() -> None:
    natural, label, _ = draw(100)
    for counted in (label == 1, label == 0):  # one class is left
        found = measure(label, Logits.of_one_fit(natural, SHIFT), counted.astype(np.float32))
        assert found.ap is None
        assert found.wll is None
        alone = measure(label[counted], Logits.of_one_fit(natural[counted], SHIFT))
        assert found.logloss == pytest.approx(alone.logloss)
    nothing = measure(label, Logits.of_one_fit(natural, SHIFT), np.zeros(100, np.float32))
    assert nothing.defined() == {}
    assert nothing.n_effective == 0
    fold = np.repeat(["a", "b"], 50)
    weight = np.ones(100) - (label == 1) * (fold == "a")
    assert can_cross_fit(label, fold)
    assert not can_cross_fit(label, fold, weight)  # fold b would be scored by a fit without positives


@pytest.mark.parametrize("kind", CALIBRATIONS[1:])
def test_calibration_with_whole_weights_equals_repeated_rows(kind: CalibrationKind) -> None:
    natural, label, weight = draw()
    found = fit_calibrator(kind, natural, label, weight)
    expected = fit_calibrator(kind, *repeated(natural, label, weight))
    # the shrinkage of isotonic steps is by a row of mean weight, which differs in the two
    atol = 0.02 if "isotonic" in kind else 1e-4
    grid = np.linspace(-4, 2, 50)
    assert np.allclose(probability(found.natural_logit(grid)), probability(expected.natural_logit(grid)), atol=atol)
    assert found.balance == pytest.approx(expected.balance)
    unweighted = probability(fit_calibrator(kind, natural, label).natural_logit(grid))
    assert np.abs(probability(found.natural_logit(grid)) - unweighted).max() > 0.05  # so that the test can fail


def test_weighted_isotonic_steps_agree_with_scikit_learn_and_one_prior_row() -> None:
    natural, label, _ = draw(seed=3)
    w = np.random.default_rng(4).exponential(size=len(label))
    found = probability(fit_calibrator("isotonic", natural, label, w).natural_logit(natural))
    steps = IsotonicRegression(out_of_bounds="clip").fit(natural, label, w).predict(natural)
    w = w / w.mean()
    total = np.array([w[steps == step].sum() for step in steps])
    expected = (steps * total + np.average(label, weights=w)) / (total + 1)
    assert np.allclose(found, expected, atol=2e-3)


def test_cross_fitted_calibration_uses_weights() -> None:
    natural, label, weight = draw()
    fold = np.random.default_rng(0).integers(0, 3, len(label)).astype(str)
    natural = 2 * natural + 1
    calibrated = calibrate(held_out(natural, label, fold, weight, SHIFT))
    report, by_kind = calibrated.report, calibrated.by_kind
    assert report.chosen != "none"
    for kind, figures in report.figures.items():
        assert figures == measure(label, Logits.of_one_fit(by_kind[kind], SHIFT), weight)
    in_fold = fold == "1"
    outside = fit_calibrator("isotonic", natural[~in_fold], label[~in_fold], weight[~in_fold])
    assert np.array_equal(by_kind["isotonic"][in_fold], outside.natural_logit(natural[in_fold]))


@pytest.mark.parametrize("method", ["weights", "logistic", "rank_mean"])
def test_stack_with_whole_weights_equals_repeated_rows(method: StackMethod) -> None:
    natural, label, _ = draw()
    rng, is_heavy = np.random.default_rng(5), np.arange(len(label)) % 2 == 0
    weight = is_heavy + rng.integers(0, 2, len(label))
    noise = rng.normal(size=(len(label), 2)) * [[2.0, 0.1]]  # a is the better member of the light rows, b of the heavy
    members = natural[:, None] + np.where(is_heavy[:, None], noise, noise[:, ::-1])
    found = fit_stack(method, ["a", "b"], members, label, weight).natural_logit(members)
    rows = np.repeat(np.arange(len(label)), weight.astype(int))
    expected = fit_stack(method, ["a", "b"], members[rows], label[rows]).natural_logit(members)
    unweighted = fit_stack(method, ["a", "b"], members, label).natural_logit(members)
    near = 0.015 if method == "rank_mean" else 1e-3  # ranks are those among rows
    assert np.abs(found - expected).mean() < near
    assert np.abs(unweighted - expected).mean() > 2 * near  # so that the test can fail
    fold = np.arange(len(label)) % 3 == 0
    scores = cross_fit_members(uncalibrated(["a", "b"], members, label, fold.astype(str), weight), (method,))[method]
    outside = fit_stack(method, ["a", "b"], members[~fold], label[~fold], weight[~fold])
    assert np.array_equal(scores[fold], outside.natural_logit(members[fold]))


def test_weighted_logistic_stack_agrees_with_scikit_learn() -> None:
    natural, label, _ = draw(seed=6)
    w = np.random.default_rng(7).exponential(size=len(label))
    stack = fit_stack("logistic", ["a"], natural[:, None], label, w)
    balanced = w * np.where(label == 1, 1 / w[label == 1].sum(), 1 / w[label == 0].sum()) * len(label) / 2
    model = LogisticRegression(C=np.inf).fit(natural[:, None], label, balanced)
    assert stack.weights[0] == pytest.approx(model.coef_[0, 0], rel=5e-3)
    assert stack.bias == pytest.approx(model.intercept_[0] - log_pos_weight_of(label, w), abs=5e-3)


def test_bootstrap_replicates_are_metrics_with_weights_times_counts() -> None:
    natural, label, weight = draw(600)
    other = natural + np.random.default_rng(1).normal(size=600)  # no ties: each negative has its own bin
    first, second = Logits.of_one_fit(natural, SHIFT), Logits.of_one_fit(other, SHIFT)
    exact = paired_bootstrap(label, first, second, n_replicates=2, weight=weight).differences
    (found,) = Resampling(label == 1, [first, second], weight, None).replicates(1, seed=3)
    # The same draws: positives first, then negatives in the order of their cells.
    rng, counts = np.random.default_rng(3), np.empty(600)
    counts[label == 1] = rng.poisson(1.0, int(label.sum()))
    ranks = [np.argsort(np.argsort(-values[label == 0], kind="stable")) for values in (natural, other)]
    cells = np.lexsort((ranks[1], ranks[0]))
    drawn = np.zeros(len(cells))
    drawn[cells] = rng.poisson((weight[label == 0][cells] > 0).astype(float))
    counts[label == 0] = drawn
    for index, name in enumerate(COMPARED):
        values = [getattr(measure(label, logits, weight * counts), name) for logits in (first, second)]
        assert found[:, index] == pytest.approx(values, abs=1e-9), name
        a, b = (getattr(measure(label, logits, weight), name) for logits in (first, second))
        assert exact[name].difference == pytest.approx(b - a), name


@pytest.mark.parametrize("n_exact", [50_000, 100])
def test_bootstrap_interval_agrees_with_weighted_resampling(n_exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recsys.evaluation.bootstrap.ranking, "N_EXACT", n_exact)
    natural, label, _ = draw(3000, seed=8)
    weight = np.random.default_rng(9).pareto(2.5, 3000).astype(np.float32)  # a few heavy rows
    other = natural + np.random.default_rng(1).normal(size=3000)
    found = paired_bootstrap(
        label, Logits.of_one_fit(natural, SHIFT), Logits.of_one_fit(other, SHIFT), 600, weight=weight
    ).differences
    rng, resampled = np.random.default_rng(2), []
    for _ in range(300):
        w = weight * rng.poisson(1.0, 3000)
        losses = [log_loss(label, probability(values), sample_weight=w) for values in (natural, other)]
        areas = [roc_auc_score(label, values, sample_weight=w) for values in (natural, other)]
        resampled.append((losses[1] - losses[0], areas[1] - areas[0]))
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    for index, name in enumerate(("logloss", "roc_auc")):
        width = expected[1, index] - expected[0, index]
        assert found[name].low == pytest.approx(expected[0, index], abs=0.2 * width), name
        assert found[name].high == pytest.approx(expected[1, index], abs=0.2 * width), name


def test_bootstrap_without_weight_in_a_class_is_refused() -> None:
    natural, label, _ = draw(100)
    logits = Logits.of_one_fit(natural, SHIFT)
    with pytest.raises(InputError, match="a comparison needs rows of both classes"):
        paired_bootstrap(label, logits, logits, weight=(label == 0).astype(np.float32))


def test_one_fit_is_calibrated_by_the_rows_that_count_at_any_scale_of_weights() -> None:
    natural, label, _ = draw(1500)
    distorted = 2 * natural
    expected = calibrate_one_fit(held_out(distorted, label, shift=SHIFT))
    assert expected is not None
    assert expected.report.chosen != "none"
    doubled = calibrate_one_fit(held_out(distorted, label, weight=np.full(1500, 2, np.float32), shift=SHIFT))
    more, more_labels = np.append(distorted, -distorted[:500]), np.append(label, label[:500])
    with_zeros = calibrate_one_fit(
        held_out(more, more_labels, weight=np.repeat([1, 0], [1500, 500]).astype(np.float32), shift=SHIFT)
    )
    expected_logit = expected.report.calibrator.natural_logit(natural)
    for found in (doubled, with_zeros):
        assert found is not None
        assert found.report.chosen == expected.report.chosen
        assert found.report.calibrator.natural_logit(natural) == pytest.approx(expected_logit, abs=1e-5)


def test_few_rows_with_most_of_the_weight_are_too_few_to_calibrate_one_fit() -> None:
    natural, label, _ = draw(1500)
    weight = np.ones(1500)
    weight[np.flatnonzero(label == 1)[:15]] = 1e5  # 15 positives of any effect
    assert calibrate_one_fit(held_out(natural, label, weight=weight, shift=SHIFT)) is None
