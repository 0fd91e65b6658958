import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.bound.__main__ import out_of_fold
from benchmarks.bound.effects import Design, fit_effects
from benchmarks.bound.form import GeneratedRows

LEVELS = {"ad": 40, "site": 8, "nothing": 30}
SD = {"ad": 0.6, "site": 0.4, "nothing": 0.0}
N = 40_000


@pytest.fixture(scope="module")
def rows() -> GeneratedRows:
    """A thousand rows of each ad; the effects of the last group are zero."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, n, N) for n in LEVELS.values()], axis=1).astype(np.int32)
    codes[:50, 1] = -1  # rows without a site
    dense = np.stack([np.ones(N), rng.normal(size=N)], axis=1).astype(np.float32)
    logit = -2 + 0.5 * dense[:, 1]
    for column, (name, n_levels) in enumerate(LEVELS.items()):
        effect = np.append(SD[name] * rng.normal(size=n_levels), 0.0)
        logit += effect[codes[:, column]]
    p = 1 / (1 + np.exp(-logit))
    return GeneratedRows(Design(dense, {}, codes, LEVELS), p, (rng.random(N) < p).astype(np.int8))


def log_loss(label: np.ndarray, logit: np.ndarray) -> float:
    return float(np.logaddexp(0, np.where(label == 1, -logit, logit)).mean())


def test_with_many_rows_for_each_effect_the_bound_is_close_to_the_truth(rows: GeneratedRows) -> None:
    natural = out_of_fold(rows, np.arange(N) % 4)
    truth = log_loss(rows.label, np.log(rows.p) - np.log1p(-rows.p))
    constant = log_loss(rows.label, np.full(N, np.log(rows.label.mean() / (1 - rows.label.mean()))))
    excess = log_loss(rows.label, natural) - truth
    assert constant - truth > 0.02
    assert excess < 1.5 * (2 + 40 + 8) / (2 * 0.75 * N)  # half a unit of deviance for each weight that is estimated


def test_standard_deviations_of_the_effects_are_recovered(rows: GeneratedRows) -> None:
    effects = fit_effects(rows.design, rows.label, np.arange(N))
    assert effects.sd["ad"] == pytest.approx(0.6, rel=0.25)
    assert effects.sd["site"] == pytest.approx(0.4, rel=0.6)
    assert effects.sd["nothing"] < 0.06
    assert effects.others[:2] == pytest.approx([-2, 0.5], abs=0.4)


def test_weights_are_those_of_scikit_learn_with_the_estimated_penalties(rows: GeneratedRows) -> None:
    effects = fit_effects(rows.design, rows.label, np.arange(N))
    sd = np.concatenate([np.full(2, 0.1**-0.5), *(np.full(n, effects.sd[name]) for name, n in LEVELS.items())])
    codes = rows.design.codes
    one_hot = [np.eye(n + 1)[codes[:, k]][:, :n] for k, n in enumerate(LEVELS.values())]
    inputs = np.concatenate([rows.design.dense, *one_hot], axis=1) * sd
    witness = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=2000).fit(inputs, rows.label)
    np.testing.assert_allclose(effects.logit(rows.design, np.arange(N)), inputs @ witness.coef_[0], atol=0.01)


def test_labels_of_scored_rows_are_never_read(rows: GeneratedRows) -> None:
    fold = np.arange(N) % 2
    before = out_of_fold(rows, fold)
    flipped = np.where(fold == 1, 1 - rows.label, rows.label).astype(np.int8)
    after = out_of_fold(GeneratedRows(rows.design, rows.p, flipped), fold)
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert np.abs(before[fold == 0] - after[fold == 0]).mean() > 1
