"""EASE against a ridge regression of each item on the others, and fading histories against hand-computed weights."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation import ease
from retrieval.evaluation.all_baselines import rows_by_user
from retrieval.evaluation.ease import Ease, ease_weights
from retrieval.evaluation.history_baselines import Histories
from tests.helpers.small import prepare_small, small_schema

N_USERS, N_ITEMS = 40, 8


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Users with 7 different items each, the last two of which are held out."""
    folder, rng = tmp_path_factory.mktemp("log"), np.random.default_rng(0)
    item = np.concatenate([rng.permutation(N_ITEMS)[:7] for _ in range(N_USERS)])
    table = pa.table({"user": np.repeat(np.arange(N_USERS), 7), "item": item, "time": np.tile(np.arange(7), N_USERS)})
    schema = small_schema(
        label=None,
        id=None,
        day=None,
        categorical=["user", "item"],
        numeric=[],
        segments={},
        split={"key": "user", "order": "time"},
        sequences={"past": {"kind": "log", "key": "user", "item": "item", "order": "time"}},
        target_item="item",
        towers={"user": ["past"], "item": ["item"]},
    )
    return prepare_small(table, folder / "raw", folder / "prepared", schema, min_count=1)


def catalog_of(log: PreparedDataset) -> Catalog:
    split = log.split("full")
    return build_catalog(split, split.fit_rows, list(split.evaluation_rows.values()), False)


def users_items(log: PreparedDataset, catalog: Catalog) -> np.ndarray:
    """[users, items] whether a user has an item among the fitting rows."""
    split = log.split("full")
    rows = split.fit_rows.numbers()
    has_item = np.zeros((N_USERS, N_ITEMS))
    has_item[log.store.read_sparse(rows)[:, 0] - 2, catalog.entries(split, rows)] = 1
    return has_item


def test_weights_are_those_of_ridge_regressions(log: PreparedDataset) -> None:
    split, catalog = log.split("full"), catalog_of(log)
    rows = rows_by_user(split, split.fit_rows)
    assert len(rows) == N_USERS
    found = ease_weights(Histories(split, catalog), catalog, split, rows, 3.0, 0)
    x = users_items(log, catalog)
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 3.0 * np.eye(N_ITEMS - 1), a.T @ x[:, item])
        np.testing.assert_allclose(found[others, item], expected, rtol=1e-4, atol=1e-6)
        assert found[item, item] == 0


@pytest.mark.parametrize("half_life", [None, 2.0])
def test_scores_sum_the_weights_of_the_history(log: PreparedDataset, half_life: float | None) -> None:
    split, catalog = log.split("full"), catalog_of(log)
    requests, weights = split.evaluation_rows["test"], np.random.default_rng(1).normal(size=(N_ITEMS, N_ITEMS))
    scores = Ease(weights, Histories(split, catalog), requests, half_life)(np.array([3]))[0]
    names = catalog.names.to_pylist()
    codes, _ = log.store.read_tokens("past", requests(np.array([3])))
    values = log.vocabularies["item"].values.to_pylist()
    entries = [names.index(values[code - 2]) for code in codes]  # the earliest event first
    fading = [1.0 if half_life is None else 0.5 ** (age / half_life) for age in range(len(entries))][::-1]
    expected = sum(w * weights[entry] for w, entry in zip(fading, entries, strict=True))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_less_popular_items_are_last(log: PreparedDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ease, "N_EASE_ITEMS", 5)
    split, catalog = log.split("full"), catalog_of(log)
    histories = Histories(split, catalog)
    weights = ease_weights(histories, catalog, split, split.fit_rows, 3.0, 0)
    assert weights.shape == (5, 5)
    scores = Ease(weights, histories, split.evaluation_rows["test"], None)(np.arange(2))
    assert np.isneginf(scores[:, 5:]).all()
    assert np.isfinite(scores[:, :5]).all()
