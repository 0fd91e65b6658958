"""Baselines from histories against counts worked out by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation import history_baselines
from retrieval.evaluation.exclusion import WithoutExcluded
from retrieval.evaluation.history_baselines import (
    Histories,
    PairCounts,
    count_pairs,
    item_histories,
    item_neighbors,
    largest_of_rows,
    transitions,
)
from tests.helpers.small import prepare_small, small_schema

LOG = {"u": "abcde", "v": "abdce", "w": "bacde", "x": "cabea"}
"""Items of each user in time; of every user the last is a test row and the one before it a valid row."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("log")
    rows = [(user, item, time) for user, items in LOG.items() for time, item in enumerate(items)]
    user, item, time = zip(*rows, strict=True)
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
    table = pa.table({"user": user, "item": item, "time": time})
    return prepare_small(table, folder / "raw", folder / "prepared", schema, min_count=1)


@pytest.fixture(scope="module")
def counted(log: PreparedDataset) -> tuple[Split, Catalog, Histories, PairCounts, Rows]:
    """The split `full`, with the pairs of its fitting rows: abc, abd, bac and cab."""
    split = log.split("full")
    catalog = build_catalog(split, split.fit_rows, list(split.evaluation_rows.values()), False)
    histories = Histories(split, catalog)
    requests = split.evaluation_rows["test"]
    return split, catalog, histories, count_pairs(histories, catalog, split, split.fit_rows, 0), requests


def scores_by_item(catalog: Catalog, scores: np.ndarray) -> list[dict[str, float]]:
    names = catalog.names.to_pylist()
    return [dict(zip(names, row.tolist(), strict=True)) for row in scores]


def test_histories_are_those_of_target_items_in_the_request(log: PreparedDataset) -> None:
    assert item_histories(log.manifest.schema_) == ("past",)
    without = log.manifest.schema_.model_copy(update={"towers": {"user": ("user",), "item": ("item", "past")}})
    assert item_histories(without) == ()


def test_transitions_count_only_fitting_rows(
    counted: tuple[Split, Catalog, Histories, PairCounts, Rows],
) -> None:
    """After a: b three times (u, v, x) and c once (w); after b: c, d and a once each; after c: a once."""
    _, catalog, histories, pairs, requests = counted
    names = catalog.names.to_pylist()
    after = {
        (names[i], names[j]): int(n) for i, j, n in zip(*pairs.after_last.nonzero(), pairs.after_last.data, strict=True)
    }
    assert after == {("a", "b"): 3, ("a", "c"): 1, ("b", "c"): 1, ("b", "d"): 1, ("b", "a"): 1, ("c", "a"): 1}
    # the requests' last items, of the valid rows: d, c, d, e. Only c has a transition, the rest ties by popularity.
    scores = scores_by_item(catalog, transitions(histories, requests, pairs, catalog.n_positives)(np.arange(4)))
    assert scores[1]["a"] == 1.5  # the count, and half a tie for the most popular item
    for row in (0, 2, 3):
        assert all(value < 1 for value in scores[row].values())
        assert scores[row]["a"] == scores[row]["b"] == 0.5 > scores[row]["c"] > scores[row]["d"] > scores[row]["e"] == 0


def test_neighbors_are_similar_by_the_cosine_of_common_histories(
    counted: tuple[Split, Catalog, Histories, PairCounts, Rows],
) -> None:
    """a is in 4 histories of the fitting rows, b in 4, c in 3, d in 1; a and b in 4 together, a and c in 3, ..."""
    _, catalog, histories, pairs, requests = counted
    ours = item_neighbors(histories, requests, pairs, catalog.n_positives)
    scores = scores_by_item(catalog, ours(np.array([1])))  # v: the history a, b, d, c
    ab, ac, ad = 4 / 4, 3 / (4 * 3) ** 0.5, 1 / (4 * 1) ** 0.5
    bc, bd = ac, ad
    assert scores[0] == pytest.approx(
        {"a": ab + ac + ad, "b": ab + bc + bd, "c": ac + bc, "d": ad + bd, "e": 0}, abs=1e-5
    )


def test_seen_items_are_last(counted: tuple[Split, Catalog, Histories, PairCounts, Rows]) -> None:
    _, catalog, histories, pairs, requests = counted
    baseline = transitions(histories, requests, pairs, catalog.n_positives)
    scores = scores_by_item(catalog, WithoutExcluded(baseline, histories, requests)(np.arange(4)))
    for user, row in zip(LOG, scores, strict=True):
        seen = {item for item, score in row.items() if score == -np.inf}
        assert seen == set(LOG[user][:-1]) - {"e"}  # e is in no fitting row, so that no history can name it


def test_many_rows_are_sampled(
    counted: tuple[Split, Catalog, Histories, PairCounts, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    split, catalog, histories, pairs, _ = counted
    monkeypatch.setattr(history_baselines, "N_COUNTED_ROWS", 6)
    sampled = count_pairs(histories, catalog, split, split.fit_rows, 0)
    assert 0 < sampled.after_last.sum() <= 6 < pairs.after_last.sum()
    none = count_pairs(histories, catalog, split, ListedRows(np.zeros(0, np.int64)), 0)
    assert none.after_last.nnz == none.together.nnz == 0


def test_only_the_largest_values_of_a_row_are_kept() -> None:
    matrix = sparse.csr_matrix(np.array([[3.0, 1, 2, 0], [0, 0, 0, 5], [0, 0, 0, 0], [2, 2, 1, 2]]))
    expected = [[3, 0, 2, 0], [0, 0, 0, 5], [0, 0, 0, 0], [2, 2, 0, 2]]
    assert largest_of_rows(matrix, 2).toarray().tolist() == expected


def test_rare_values_are_no_item(tmp_path: Path) -> None:
    """Items below min_count share an id: histories do not name them, and rows of them are still counted."""
    items = "aaaaaabaac"
    table = pa.table({"user": ["u"] * 10, "item": list(items), "time": range(10), "click": [0, 1] * 5})
    schema = small_schema(
        id=None,
        day=None,
        categorical=["user", "item"],
        numeric=[],
        segments={},
        sequences={"past": {"kind": "log", "key": "user", "item": "item", "order": "time"}},
        target_item="item",
        towers={"user": ["past"], "item": ["item"]},
    )
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "prepared", schema, min_count=5)
    split = dataset.split("full")
    catalog = build_catalog(split, split.fit_rows, [], False)
    matrix = Histories(split, catalog).matrix(np.array([7, 9]))
    assert catalog.names.to_pylist()[0] == "a"
    assert matrix.toarray().tolist() == [[6, 0, 0], [8, 0, 0]]  # the b in row 6 is left out
