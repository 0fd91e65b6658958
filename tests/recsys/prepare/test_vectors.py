from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from tests.helpers.vector_data import prepare_vectors, prepared_vectors, vector_schema

N = 40


def table(vectors: list[list[float] | None]) -> pa.Table:
    n = len(vectors)
    return pa.table(
        {
            "item": [f"item-{number % 4}" for number in range(n)],
            "device": ["phone", "desktop"] * (n // 2),
            "price": np.arange(n, dtype=np.float32),
            "seen": [["item-0"]] * n,
            "image": pa.array(vectors, pa.list_(pa.float32())),
            "split": ["train"] * n,
            "click": [0, 0, 1, 1] * (n // 4),
        }
    )


def test_components_are_standardized_and_a_missing_vector_has_one_indicator(tmp_path: Path) -> None:
    vectors = [None if row == 3 else [float(row % 2), 100.0 * (row % 2)] for row in range(N)]
    split = prepared_vectors(table(vectors), tmp_path).split("full")
    assert split.schema.dense == ("price", "image_0", "image_1", "isnull(image_0+1)")
    dense = split.batch(np.arange(4), ()).dense.numpy()
    # 20 zeros and 19 ones: mean 19 / 39, standard deviation sqrt(19 * 20) / 39
    low, high = -19 / 380**0.5, 20 / 380**0.5
    np.testing.assert_allclose(dense[:, 1:3], [[low, low], [high, high], [low, low], [0, 0]], rtol=1e-5)
    np.testing.assert_array_equal(dense[:, 3], [0, 0, 0, 1])


def test_a_null_inside_makes_the_vector_missing(tmp_path: Path) -> None:
    vectors: list[list[float] | None] = [[float(row), 1.0 / (row + 1)] for row in range(N)]
    vectors[2] = [2.0, np.nan]
    split = prepared_vectors(table(vectors), tmp_path).split("full")
    assert split.schema.missing_indicators == (("image_0", "image_1"),)
    np.testing.assert_array_equal(split.batch(np.array([2]), ()).dense.numpy()[0, 1:], [0, 0, 1])


def test_rows_with_different_vectors_are_no_copies(tmp_path: Path) -> None:
    rows = table([[1.0, 2.0]] * (N // 2) + [[1.0, 2.5]] * (N // 2))
    for index, (name, value) in enumerate({"item": "a", "device": "b", "price": 1.0}.items()):
        rows = rows.set_column(index, name, pa.array([value] * N))
    rows = rows.set_column(6, "click", pa.array([0, 1] * (N // 2)))
    assert prepared_vectors(rows, tmp_path).stats.n_copies == N - 4  # two vectors, two labels


def test_components_have_no_other_transform(tmp_path: Path) -> None:
    rows = table([[1.0, 2.0], [3.0, 4.0]] * (N // 2))
    with pytest.raises(InputError, match="'image_1' is a component of a vector, and those are only standardized"):
        prepare_vectors(rows, tmp_path, numeric_transform_by_column={"image_1": "log"})
    prepare_vectors(rows, tmp_path, numeric_transform_by_column={"*": "log"})


def test_a_column_without_a_vector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'image' has no vector in the training rows: remove it from the schema"):
        prepare_vectors(table([None] * N), tmp_path, vector_schema(vectors={"image": {"size": 2}}))
