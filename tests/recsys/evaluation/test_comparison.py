"""The paired bootstrap against scikit-learn on resampled rows."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import recsys.evaluation.comparison
from recsys.errors import InputError
from recsys.evaluation.comparison import COMPARED, paired_bootstrap
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import measure

SHIFT = 2.0


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, Logits, Logits]:
    """Labels, and logits of a worse and of a better model, rounded for many ties."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2.5, 1.2, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.int8)
    worse, better = (np.round(true + rng.normal(size=n) * noise, 2) for noise in (1.5, 1.3))
    return label, Logits.of_one_fit(worse, SHIFT), Logits.of_one_fit(better, SHIFT)


def test_weights_of_one_give_the_exact_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    label, first, second = draw(3000)

    class Ones:
        def poisson(self, mean: object, size: int) -> np.ndarray:
            return np.broadcast_to(np.asarray(mean), size)

    for n_exact in (50_000, 10):  # with single negatives, and with binned negatives
        monkeypatch.setattr(recsys.evaluation.comparison, "N_EXACT", n_exact)
        monkeypatch.setattr(np.random, "default_rng", lambda seed: Ones())
        found = paired_bootstrap(label, first, second, n_replicates=2)
        for name in COMPARED:
            exact = [getattr(measure(label, s), name) for s in (first, second)]
            assert found[name].difference == pytest.approx(exact[1] - exact[0], abs=1e-12)
            assert found[name].low == pytest.approx(exact[1] - exact[0], abs=1e-9)


@pytest.mark.parametrize("n_exact", [50_000, 100])
def test_interval_agrees_with_resampled_rows(n_exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recsys.evaluation.comparison, "N_EXACT", n_exact)
    label, first, second = draw(4000, seed=1)
    found = paired_bootstrap(label, first, second, n_replicates=1000)
    rng, by_rows = np.random.default_rng(2), []
    for _ in range(300):
        rows = rng.integers(0, len(label), len(label))
        a, b = first.natural[rows], second.natural[rows]
        y = label[rows]
        by_rows.append(
            (
                average_precision_score(y, b) - average_precision_score(y, a),
                roc_auc_score(y, b) - roc_auc_score(y, a),
            )
        )
    expected = np.quantile(by_rows, [0.025, 0.975], axis=0)
    for index, name in enumerate(("ap", "roc_auc")):
        width = expected[1, index] - expected[0, index]
        assert found[name].low == pytest.approx(expected[0, index], abs=0.15 * width)
        assert found[name].high == pytest.approx(expected[1, index], abs=0.15 * width)


def test_a_model_has_no_difference_from_itself() -> None:
    label, first, _ = draw(2000)
    for difference in paired_bootstrap(label, first, first, n_replicates=50).values():
        assert difference.low == difference.high == difference.difference == 0.0


def test_coverage_of_the_interval() -> None:
    label, first, second = draw(120_000, seed=3)
    truth = roc_auc_score(label, second.natural) - roc_auc_score(label, first.natural)
    covered = 0
    for part in range(60):
        rows = slice(2000 * part, 2000 * (part + 1))
        parts = [s.take(rows) for s in (first, second)]
        found = paired_bootstrap(label[rows], *parts, n_replicates=150)["roc_auc"]
        covered += found.low <= truth <= found.high
    assert 52 <= covered <= 60


def test_one_class_is_refused() -> None:
    scores = Logits.of_one_fit(np.zeros(5), 0.0)
    with pytest.raises(InputError, match="5 rows, 0 of them positive"):
        paired_bootstrap(np.zeros(5), scores, scores)


def test_one_positive_gives_intervals_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    """A third of the samples have no positive: their metrics are undefined and left out."""
    label, first, second = draw(200)
    label[:] = 0
    label[7] = 1
    found = paired_bootstrap(label, first, second, n_replicates=100)
    assert all(np.isfinite([d.low, d.high]).all() for d in found.values())
    assert len(recwarn) == 0
