"""Bootstrap samples against the metrics of rows with weights."""

from collections.abc import Sequence

import numpy as np
import pytest

import recsys.evaluation.bootstrap.ranking
from recsys.evaluation.bootstrap.draws import Resampling, shared_clusters
from recsys.evaluation.comparison import COMPARED
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import measure


def draw(n: int, n_models: int, decimals: int) -> tuple[np.ndarray, list[Logits], np.ndarray]:
    """Labels, logits with ties, and weights."""
    rng = np.random.default_rng(0)
    true = rng.normal(-1.5, 1.2, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.int8)
    models = [np.round(true + rng.normal(size=n), decimals) for _ in range(n_models)]
    return label, [Logits.of_one_fit(model, 2.0) for model in models], rng.exponential(size=n)


def exact(label: np.ndarray, models: Sequence[Logits], weight: np.ndarray) -> np.ndarray:
    metrics = [measure(label, logits, weight) for logits in models]
    return np.array([[figures.value(name) for name in COMPARED] for figures in metrics])


def test_clusters_by_hand() -> None:
    shared, n_shared = shared_clusters(np.array([7, 3, 7, -1, 5, -1, 3]), 7)
    assert shared.tolist() == [1, 0, 1, -1, -1, -1, 0]  # 5 has one row; -1 is no user
    assert n_shared == 2
    shared, n_shared = shared_clusters(None, 3)
    assert (shared.tolist(), n_shared) == ([-1, -1, -1], 0)


class Ones:
    """Draws everything once, on average."""

    def poisson(self, mean: object, size: int) -> np.ndarray:
        return np.broadcast_to(np.asarray(mean), size)

    def multinomial(self, n: int, shares: np.ndarray) -> np.ndarray:
        return n * shares


@pytest.mark.parametrize("n_exact", [50_000, 10])
@pytest.mark.parametrize("n_users", [None, 40])
def test_weights_of_one_give_the_exact_metrics(
    n_exact: int, n_users: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with bins: where every row of a bin is drawn once, the rows above a positive are counted by ranks."""
    monkeypatch.setattr(recsys.evaluation.bootstrap.ranking, "N_EXACT", n_exact)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Ones())
    label = np.tile([0, 0, 1, 0, 1], 600)
    logits = [Logits.of_one_fit(np.sin(np.arange(3000.0) * k), 2.0) for k in (1, 2)]
    user = None if n_users is None else np.arange(3000) % n_users
    (found,) = Resampling(label == 1, logits, np.ones(3000), user).replicates(1, 0)
    assert found == pytest.approx(exact(label, logits, np.ones(3000)), abs=1e-9)


@pytest.mark.parametrize("n_models", [2, 6])
def test_rows_of_a_user_share_their_draw(n_models: int) -> None:
    """Users, rows without a user and users of one row, with weights and ties; the same draws by hand."""
    label, models, weight = draw(4000, n_models, decimals=2)
    rng = np.random.default_rng(3)
    user = np.where(rng.random(4000) < 0.1, -1, rng.integers(0, 900, 4000))
    (found,) = Resampling(label == 1, models, weight, user).replicates(1, 11)
    rng, counts = np.random.default_rng(11), np.zeros(4000)
    values, n_rows = np.unique(user[user >= 0], return_counts=True)
    shared = values[n_rows > 1]
    is_shared = np.isin(user, shared)
    draws = rng.poisson(1.0, len(shared) + int((label[~is_shared] == 1).sum()))
    counts[is_shared] = draws[np.searchsorted(shared, user[is_shared])]
    counts[~is_shared & (label == 1)] = draws[len(shared) :]
    # Single negatives in the order of their ranks by the first model; ties are ranked in the order of rows.
    single = np.flatnonzero(~is_shared & (label == 0))
    ranked = single[np.argsort(-models[0].natural[single], kind="stable")]
    counts[ranked] = rng.poisson(1.0, len(single))
    assert found == pytest.approx(exact(label, models, weight * counts), abs=1e-9)


def test_bins_keep_the_draws_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many users: with bins, samples differ from the exact ones by far less than from each other."""
    label, models, weight = draw(20_000, 2, decimals=9)
    user = np.random.default_rng(1).integers(0, 300, 20_000)
    is_positive = label == 1
    one_by_one = np.array(list(Resampling(is_positive, models, weight, user).replicates(50, 0)))
    monkeypatch.setattr(recsys.evaluation.bootstrap.ranking, "N_EXACT", 100)
    binned = np.array(list(Resampling(is_positive, models, weight, user).replicates(50, 0)))
    assert np.abs(binned - one_by_one).max() < 0.02 * one_by_one.std(axis=0).min()


def test_a_sample_without_a_class_has_no_metrics() -> None:
    label, models, _ = draw(200, 2, decimals=2)
    user = np.where(label == 1, 0, 1)  # all positives are drawn together
    found = np.array(list(Resampling(label == 1, models, np.ones(200), user).replicates(30, 0)))
    is_undefined = np.isnan(found).all(axis=(1, 2))
    assert 0 < is_undefined.sum() < 30
    assert np.isfinite(found[~is_undefined]).all()


@pytest.mark.parametrize(("n_users", "is_fixed"), [(10, True), (60, False)])
def test_of_few_users_as_many_are_drawn_as_there_are(n_users: int, is_fixed: bool) -> None:
    """A Poisson number of ten users varies by a third, and makes intervals of weighted losses too wide."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(n_users), 20)
    is_positive, logits = rng.random(20 * n_users) < 0.2, Logits.of_one_fit(rng.normal(size=20 * n_users), 0.0)
    resampling = Resampling(is_positive, [logits], np.ones(20 * n_users), user)
    draws = np.stack([resampling._draws_of_ones(rng) for _ in range(2000)])
    assert (len(set(draws.sum(axis=1))) == 1) == is_fixed
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(draws.var(axis=0), 1 - is_fixed / n_users, atol=0.15)
