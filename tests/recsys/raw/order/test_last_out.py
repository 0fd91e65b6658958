"""Leave-last-out splits, rows with equal times, and items, from raw rows to a prepared data set."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.raw.order.last_out import n_later_rows
from recsys.raw.order.moments import join_moments, read_moments
from recsys.raw.tokens import encode_values
from tests.helpers.small import prepare_small, small_schema


def log() -> pa.Table:
    """Three users; the second has only two rows, and the third's last two rows have equal times."""
    return pa.table(
        {
            "user": [1, 3, 1, 2, 1, 3, 3, 1, 2, None, 3],
            "at": [5, 1, 3, 9, 8, 4, 6, 7, 8, 1, 6],
            "film": [10, 11, 12, 10, 11, 13, 10, 14, 11, 12, 99],
            "click": [0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0],
        }
    )


def prepared(folder: Path, ties: str = "file") -> PreparedDataset:
    before = {"kind": "log", "key": "user", "item": "film", "order": "at", "max_length": 2, "ties": ties}
    schema = small_schema(
        id=None,
        day=None,
        categorical=["user", "film"],
        numeric=[],
        segments={},
        split={"key": "user", "order": "at", "min_rows": 3},
        sequences={"before": before},
        target_item="film",
    )
    return prepare_small(log(), folder / "raw", folder / "out", schema, min_count=1)


def test_positions_from_the_end_by_hand() -> None:
    moments = join_moments([read_moments(log()["at"], Path("log"), "order")], "order")
    found = n_later_rows(encode_values(log()["user"]), moments, min_rows=3)
    assert found.tolist() == [2, 3, 3, -1, 0, 2, 1, 1, -1, -1, 0]


def test_the_last_row_of_a_key_is_test_and_the_one_before_it_valid(tmp_path: Path) -> None:
    dataset = prepared(tmp_path)
    assert dataset.predefined_splits == ("valid", "test")
    test, valid = (dataset.partition_rows(name)(np.arange(2)).tolist() for name in ("test", "valid"))
    assert sorted(test) == [4, 10]
    assert sorted(valid) == [6, 7]


def test_rows_with_equal_times_follow_the_order_of_the_files(tmp_path: Path) -> None:
    for ties, expected in (("file", ["13", "10"]), ("exclude", ["11", "13"])):
        dataset = prepared(tmp_path / ties, ties)
        codes, _ = dataset.store.read_tokens("before", np.array([10]))
        values = dataset.vocabularies["film"].values.to_pylist()
        assert [values[code - 2] for code in codes] == expected
        assert dataset.store.sequence_lengths("before", np.array([10, 4, 1])).tolist() == [
            3 if ties == "file" else 2,
            3,
            0,
        ]


def test_item_names_include_items_outside_the_vocabulary(tmp_path: Path) -> None:
    dataset = prepared(tmp_path)
    names = dataset.store.item_names.to_pylist()
    films = log()["film"].to_pylist()
    assert [names[item] for item in dataset.store.items(np.arange(11))] == [str(film) for film in films]
    assert "99" not in dataset.vocabularies["film"].values.to_pylist()  # the vocabulary excludes films of test rows


def test_days_are_numbered_in_their_order(small: PreparedDataset) -> None:
    from tests.helpers.small import small_table

    rows = np.arange(200)
    assert small.store.days(rows).tolist() == [int(day) - 1 for day in small_table()["day"].to_pylist()[:200]]


@pytest.mark.parametrize("text", ["1,2,3,4,5,6,7,8,9,10", "1,2,3"])
def test_tokens_spread_over_the_whole_sequence(text: str) -> None:
    from recsys.raw.sequences.delimited import read_delimited
    from recsys.raw.tokens import parse_list

    whole = text.split(",")
    expected = whole if len(whole) <= 4 else [whole[(2 * k + 1) * len(whole) // 8] for k in range(4)]
    kept = read_delimited(pa.array([text]), ",", 4, "spread").kept
    assert kept.values.take(pa.array(kept.codes)).to_pylist() == expected
    assert parse_list(pa.array([whole]), 4, "spread").tokens.to_pylist() == expected
