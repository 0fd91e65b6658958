from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.schema.features import VectorFeature
from serving.runtime.bundle import Bundle
from serving.runtime.numbers import read_vector_column
from tests.helpers.serving import ITEM_COLUMNS, unseen_rows

IMAGE = VectorFeature(name="image", size=2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2.5]], [[1, 2.5]]),
        ([[1, 2], None, [3.5, None], (4, 5)], [[1, 2], [np.nan] * 2, [np.nan] * 2, [4, 5]]),
        ([np.array([1.0, 2.0], np.float32)], [[1, 2]]),
        ([None], [[np.nan] * 2]),
        (pa.array([[1, 2], None], pa.list_(pa.int64())), [[1, 2], [np.nan] * 2]),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), [[1, 2]]),
        (pa.array([[1.0, 2.0]], pa.large_list(pa.float16())), [[1, 2]]),
        (pa.nulls(2), np.full((2, 2), np.nan)),
        (pa.array([[None, None]]), [[np.nan] * 2]),
    ],
)
def test_a_vector_is_a_list(values: Any, expected: Any) -> None:
    found = read_vector_column(IMAGE, values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [[1, 2], [1, 2, 3]],
            "column 'image' has a vector with 3 numbers in row 1: write a list of 2 numbers, or null",
        ),
        ([[]], "column 'image' has a vector with 0 numbers in row 0"),
        ([[1, float("inf")]], "column 'image' has a vector with an infinite number in row 0: write a list of 2"),
        ([["a", "b"]], r"column 'image' is a vector, but contains list<.*string>: write a list of 2 numbers, or null"),
        ([[True, False]], r"column 'image' is a vector, but contains list<.*bool>"),
        ([[1, "a"]], "column 'image' is a vector, but contains other values: write a list of 2 numbers, or null"),
        ([[1, 2], 5], "column 'image' is a vector, but contains other values"),
        ([[[1], [2]]], r"column 'image' is a vector, but contains list<.*list<"),
        ([5], "column 'image' is a vector, but contains int64"),
        (["1,2"], "column 'image' is a vector, but contains string"),
        (pa.array([["a", "b"]]), r"column 'image' is a vector, but contains list<.*string>: write a list of 2 numbers"),
        (pa.array([1.0]), "column 'image' is a vector, but contains double"),
        (pa.array([[1.0]]), "column 'image' has a vector with 1 numbers in row 0"),
    ],
)
def test_wrong_vectors(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_vector_column(IMAGE, values)


@pytest.mark.parametrize("model", ["dcnv2", "din", "gbdt"])
def test_scores_depend_on_vectors_in_every_form(model: str, bundle_of: Callable[[str], Bundle]) -> None:
    bundle, rows = bundle_of(model), unseen_rows(200)  # so many that some cross a split of the trees
    expected = bundle.score(rows).logit
    frame = rows.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    np.testing.assert_allclose(bundle.score(frame).logit, expected, atol=1e-5)
    for name in ("image", "profile"):
        moved = [None if vector is None else [10 * x + 5 for x in vector] for vector in rows[name].to_pylist()]
        changed = rows.set_column(rows.column_names.index(name), name, pa.array(moved, rows[name].type))
        assert np.abs(bundle.score(changed).logit - expected).max() > 1e-4, name


def test_a_vector_of_the_user_is_that_of_all_candidates(bundle_of: Callable[[str], Bundle]) -> None:
    bundle, rows = bundle_of("din"), unseen_rows(4).to_pylist()
    user = {name: value for name, value in rows[1].items() if name not in ITEM_COLUMNS}
    candidates = [{name: row[name] for name in ITEM_COLUMNS} for row in rows]
    joined = pa.Table.from_pylist([user | candidate for candidate in candidates], unseen_rows().schema)
    np.testing.assert_allclose(bundle.score(candidates, user).logit, bundle.score(joined).logit, atol=1e-5)
