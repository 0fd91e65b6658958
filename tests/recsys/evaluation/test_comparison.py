"""The paired bootstrap against scikit-learn on resampled rows and users."""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

import recsys.evaluation.bootstrap.ranking
from recsys.errors import InputError
from recsys.evaluation.comparison import Comparison, Difference, metric_intervals, paired_bootstrap
from recsys.evaluation.logits import Logits

SHIFT = 2.0


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, Logits, Logits]:
    """Labels, and logits of a worse and of a better model, rounded for many ties."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2.5, 1.2, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.int8)
    worse, better = (np.round(true + rng.normal(size=n) * noise, 2) for noise in (1.5, 1.3))
    return label, Logits.of_one_fit(worse, SHIFT), Logits.of_one_fit(better, SHIFT)


@pytest.mark.parametrize("n_exact", [50_000, 100])
def test_interval_agrees_with_resampled_rows(n_exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recsys.evaluation.bootstrap.ranking, "N_EXACT", n_exact)
    label, first, second = draw(4000, seed=1)
    found = paired_bootstrap(label, first, second, n_replicates=1000).differences
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
    for difference in paired_bootstrap(label, first, first, n_replicates=50).differences.values():
        assert difference.low == difference.high == difference.difference == 0.0


def test_coverage_of_the_interval() -> None:
    label, first, second = draw(120_000, seed=3)
    truth = roc_auc_score(label, second.natural) - roc_auc_score(label, first.natural)
    covered = 0
    for part in range(60):
        rows = slice(2000 * part, 2000 * (part + 1))
        parts = [s.take(rows) for s in (first, second)]
        found = paired_bootstrap(label[rows], *parts, n_replicates=150).differences["roc_auc"]
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
    found = paired_bootstrap(label, first, second, n_replicates=100).differences
    assert all(np.isfinite([d.low, d.high]).all() for d in found.values())
    assert len(recwarn) == 0


def resampled_users(label: np.ndarray, first: Logits, second: Logits, user: np.ndarray, n: int) -> np.ndarray:
    """Standard deviations of the differences in AP and ROC-AUC over samples of users, each with all its rows."""
    rng, rows_of, differences = np.random.default_rng(2), [np.flatnonzero(user == u) for u in np.unique(user)], []
    for _ in range(n):
        rows = np.concatenate([rows_of[index] for index in rng.integers(0, len(rows_of), len(rows_of))])
        y, a, b = label[rows], first.natural[rows], second.natural[rows]
        differences.append([metric(y, b) - metric(y, a) for metric in (average_precision_score, roc_auc_score)])
    return np.std(differences, axis=0)


@pytest.mark.parametrize("n_exact", [50_000, 300])
def test_interval_by_user_agrees_with_resampled_users(n_exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recsys.evaluation.bootstrap.ranking, "N_EXACT", n_exact)
    rng = np.random.default_rng(5)
    user = rng.integers(0, 100, 5000)
    effect, *errors = (rng.normal(size=100)[user] for _ in range(3))  # what the rows of a user share
    true = effect - 2 + rng.normal(size=5000)
    label = (rng.random(5000) < 1 / (1 + np.exp(-true))).astype(np.int8)
    first, second = (Logits.of_one_fit(true + error, SHIFT) for error in errors)
    expected = 1.96 * resampled_users(label, first, second, user, 200)
    by_user = paired_bootstrap(label, first, second, cluster=user, by="user").differences
    by_row = paired_bootstrap(label, first, second).differences
    for name, half_width in zip(("ap", "roc_auc"), expected, strict=True):
        assert by_user[name].high - by_user[name].difference == pytest.approx(half_width, rel=0.15), name
        assert by_row[name].high - by_row[name].difference < 0.9 * half_width, name


def test_the_interval_of_gauc_agrees_with_resampled_users() -> None:
    """A user drawn twice counts twice in the mean of the users' ROC-AUCs."""
    rng = np.random.default_rng(3)
    user = rng.integers(-1, 150, 3000)  # -1: rows without a user do not count
    effect, within = rng.normal(size=151)[user], rng.normal(size=3000)
    label = (rng.random(3000) < 1 / (1 + np.exp(1.5 - effect - within))).astype(np.int8)
    scores = within + rng.normal(size=3000), effect + within / 2 + rng.normal(size=3000)
    first, second = (Logits.of_one_fit(score, SHIFT) for score in scores)

    aucs, weights = [], []
    for rows in (np.flatnonzero(user == number) for number in range(150)):
        if 0 < label[rows].sum() < len(rows):
            aucs.append([roc_auc_score(label[rows], score[rows]) for score in scores])
            weights.append(len(rows))
    gain, weight = np.diff(aucs)[:, 0], np.array(weights)
    drawn = np.random.default_rng(4).integers(0, len(gain), (2000, len(gain)))
    half_width = 1.96 * np.std((gain * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1))

    by_user = paired_bootstrap(label, first, second, cluster=user, by="user").differences
    assert by_user["gauc"].difference == pytest.approx(np.average(gain, weights=weight), abs=1e-12)
    assert by_user["gauc"].high - by_user["gauc"].difference == pytest.approx(half_width, rel=0.1)
    assert by_user["gauc"].high < 0 < by_user["roc_auc"].low, "users are told apart, their rows less well"
    assert "gauc" not in paired_bootstrap(label, first, second, cluster=user, by="day").differences
    interval = metric_intervals(label, second, cluster=user, by="user")["gauc"]
    assert interval.low < interval.value == by_user["gauc"].second < interval.high


def test_copies_of_rows_within_users_do_not_narrow_the_interval() -> None:
    """Ten copies of each row, under one user: what rows tell is no more than before; rows drawn alone do not know."""
    label, first, second = draw(2000)
    copies = np.repeat(np.arange(2000), 10)
    several = label[copies], first.take(copies), second.take(copies)
    once = paired_bootstrap(label, first, second).differences
    by_user = paired_bootstrap(*several, cluster=copies, by="user").differences
    by_row = paired_bootstrap(*several).differences
    for name, d in once.items():
        assert by_user[name].difference == pytest.approx(d.difference, abs=1e-9), name
        assert by_user[name].high - by_user[name].low == pytest.approx(d.high - d.low, rel=0.1), name
        assert by_row[name].high - by_row[name].low == pytest.approx((d.high - d.low) / 10**0.5, rel=0.1), name


def test_users_of_one_row_are_rows() -> None:
    label, first, second = draw(500)
    by_row = paired_bootstrap(label, first, second, n_replicates=20)
    for user in (np.arange(500), np.full(500, -1)):  # -1: the row has no user
        by_user = paired_bootstrap(label, first, second, n_replicates=20, cluster=user, by="user")
        assert by_user.differences == by_row.differences
        assert by_user.n_clusters == 500


def test_several_fits_give_their_mean_and_hold_their_seeds() -> None:
    label, first, second = draw(3000)
    rng = np.random.default_rng(1)
    sizes = (0.0, 1.0, 3.0)  # fits of unequal quality
    fits = [second.with_natural(second.natural + size * rng.normal(size=3000)) for size in sizes]
    alone = [paired_bootstrap(label, first, fit, n_replicates=200).differences["ap"] for fit in fits]
    found = paired_bootstrap(label, [first], fits, n_replicates=200)
    ap = found.differences["ap"]
    assert ap.second == pytest.approx(np.mean([d.second for d in alone]))
    assert ap.difference == pytest.approx(ap.second - ap.first)
    assert ap.high - ap.low > 1.3 * max(d.high - d.low for d in alone)
    assert found.n_seeds == (1, 3)


def comparison(n_rows: int, n_positive: int, n_clusters: int, n_seeds: tuple[int, int] = (1, 1)) -> Comparison:
    d = Difference(first=0.1, second=0.2, difference=0.1, low=0.05, high=0.15)
    return Comparison(
        differences={"ap": d}, by="user", n_rows=n_rows, n_positive=n_positive, n_clusters=n_clusters, n_seeds=n_seeds
    )


def test_a_comparison_tells_its_rows_and_clusters_in_text_and_in_json() -> None:
    found = comparison(101_371, 58_000, 1_215)
    assert found.counts == "101,371 rows, 58,000 positives, 1,215 users"
    assert found.note is None
    assert found.model_dump(mode="json")["scope"] == found.scope
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    assert found.model_copy(update={"by": "row"}).counts == "101,371 rows, 58,000 positives"


def test_few_clusters_and_few_clicks_are_noted() -> None:
    assert comparison(1000, 500, 50).note is None
    assert comparison(1000, 499, 49).note == "rough intervals, from 49 users and 499 clicks"
    assert "from 499 clicks" in (comparison(1000, 499, 50).note or "")
    assert "from 100 rows without a click" in (comparison(1000, 900, 50).note or "")


def test_the_scope_says_whose_seeds_the_intervals_hold() -> None:
    assert "of these two fits" in comparison(10, 5, 5).scope
    assert comparison(10, 5, 5, (3, 4)).scope == "intervals hold users and seeds (3 and 4 fits)"
    assert "of the first there is this one fit" in comparison(10, 5, 5, (1, 3)).scope
    assert "of the second there is this one fit" in comparison(10, 5, 5, (2, 1)).scope


def test_a_single_user_gives_no_interval() -> None:
    label, first, second = draw(300)
    found = paired_bootstrap(label, first, second, n_replicates=50, cluster=np.zeros(300, np.int64), by="user")
    assert found.n_clusters == 1
    assert all(np.isnan([d.low, d.high]).all() for d in found.differences.values())


@pytest.mark.parametrize("rows_a_user", [1, 20])
def test_the_interval_of_a_mean_is_students(rows_a_user: int) -> None:
    """Log loss is a mean: its interval is that of the mean over users, whose rows are alike here."""
    rng = np.random.default_rng(3)
    n_users = 400
    user = np.repeat(np.arange(n_users), rows_a_user)
    label = np.repeat((rng.random(n_users) < 0.3).astype(np.int64), rows_a_user)
    p = np.repeat(rng.uniform(0.1, 0.5, n_users), rows_a_user)
    logits = Logits.of_one_fit(np.log(p / (1 - p)), 0.0)
    interval = metric_intervals(label, logits, n_replicates=2000, cluster=user)["logloss"]
    loss = -np.log(np.where(label == 1, p, 1 - p))[::rows_a_user]
    assert interval.value == pytest.approx(loss.mean())
    half = student.ppf(0.975, n_users - 1) * loss.std(ddof=1) / np.sqrt(n_users)
    assert interval.high - interval.value == pytest.approx(half, rel=0.06)
    assert interval.value - interval.low == pytest.approx(half, rel=0.06)


def test_rows_of_one_class_or_one_user_have_no_intervals() -> None:
    logits = Logits.of_one_fit(np.zeros(5), 0.0)
    assert metric_intervals(np.zeros(5, np.int64), logits) == {}
    assert metric_intervals(np.array([0, 1, 0, 1, 0]), logits, cluster=np.zeros(5, np.int64)) == {}
