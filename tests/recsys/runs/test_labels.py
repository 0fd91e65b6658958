import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.runs.labels import Labels, read_labels
from recsys.schema.config import Condition

IDS = ["5", "7", "9"]


def read(dataset: PreparedDataset, path: Path, has_id: bool = True) -> Labels:
    schema = dataset.manifest.schema_.model_copy(update={} if has_id else {"id": None})
    return read_labels(path, schema, 3, lambda: pa.array(IDS))


@pytest.mark.parametrize(
    "ids",
    [pa.array([9, 5, 7]), pa.array([9.0, 5.0, 7.0]), pa.array([Decimal("9"), Decimal("5"), Decimal("7")]),
     pa.array(["9", "5", "7"]), pa.array(["9", "5", "7"]).dictionary_encode()],
    ids=lambda ids: str(ids.type),
)  # fmt: skip
def test_an_id_is_the_same_in_any_type(small: PreparedDataset, tmp_path: Path, ids: pa.Array) -> None:
    pq.write_table(pa.table({"id": ids, "click": [1, 0, 0]}), tmp_path / "labels.parquet")
    assert read(small, tmp_path / "labels.parquet").label.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "label", [pa.array([True, False, False]), pa.array([Decimal("1.0"), Decimal("0.0"), Decimal("0.0")])], ids=str
)
def test_labels_of_other_types(small: PreparedDataset, tmp_path: Path, label: pa.Array) -> None:
    pq.write_table(pa.table({"id": IDS, "click": label}), tmp_path / "labels.parquet")
    assert read(small, tmp_path / "labels.parquet").label.tolist() == [1, 0, 0]


def test_labels_in_csv(small: PreparedDataset, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    pa_csv.write_csv(pa.table({"id": [9, 5, 7], "click": [1, 0, 0], "p": [0.5, 0.1, 0.2]}), path)
    labels = read(small, path)
    assert labels.label.tolist() == [0, 0, 1]
    assert labels.p is not None
    assert labels.p.tolist() == [0.1, 0.2, 0.5]
    path.write_bytes("id,click\n한,0\n".encode("cp949"))
    with pytest.raises(InputError, match="labels.csv: column 'id' has bytes that are not UTF-8 in row 0"):
        read(small, path)
    (tmp_path / "labels.tsv.gz").write_bytes(gzip.compress(b"id\tclick\n9\t1\n5\t0\n7\t0\n"))
    assert read(small, tmp_path / "labels.tsv.gz").label.tolist() == [0, 0, 1]
    path.write_text("id,click\n5,0,1\n")
    with pytest.raises(InputError, match="labels.csv is not a readable CSV file"):
        read(small, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"click": [0, 0]}, "has 2 rows, expected 3.* add the ids as column 'id', or a column 'row_in_split'"),
        ({"id": ["5", "5", "7"], "click": [0, 0, 0]}, "repeats an id in column 'id': row 2 has '5', as row 1"),
        ({"id": ["5", "6", "7"], "click": [0, 0, 0]}, "does not have exactly one row for each of the 3 rows"),
        ({"id": IDS}, "has no label column 'click'"),
        ({"id": [[5], [7], [9]], "click": [0, 0, 0]}, "which cannot identify rows"),
        ({"id": IDS, "click": [0, 1, 2]}, "contains 2 in row 2: labels must be 0 or 1"),
        ({"id": IDS, "click": [0, 1, None]}, r"label column 'click' has nulls \(such as in row 2\)"),
        ({"id": IDS, "click": ["no", "yes", "no"]}, "contains 'no' in row 0.*or name the values of a click"),
    ],
)
def test_other_labels_are_refused(
    small: PreparedDataset, tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=message):
        read(small, tmp_path / "labels.parquet")


@pytest.mark.parametrize(
    ("condition", "values", "label"),
    [
        (None, ["True", "False", "false"], [1, 0, 0]),
        (Condition(column="click", values=("yes", "maybe")), ["maybe", "no", "yes"], [1, 0, 1]),
        (Condition(column="click", values=("true",)), ["True", "False", "True"], [1, 0, 1]),
        (Condition(column="click", values=("yes",)), ["0", "1", "1"], [0, 1, 1]),
        (Condition(column="click", values=("yes",)), ["True", "False", "True"], [1, 0, 1]),
        (Condition(column="click", values=("0",)), ["0", "1", "1"], [1, 0, 0]),
        (Condition(column="click", min=4), ["4", "3.5", "5"], [1, 0, 1]),
        (Condition(column="click", min=4), ["0", "1", "0"], [0, 1, 0]),
        (Condition(column="click", min=4), ["1", "1", "2"], [0, 0, 0]),
    ],
    ids=str,
)
def test_labels_are_derived_like_those_of_training_rows(
    small: PreparedDataset, tmp_path: Path, condition: Condition | None, values: list[str], label: list[int]
) -> None:
    schema = small.manifest.schema_.model_copy(update={"label_condition": condition})
    path = tmp_path / "labels.csv"
    path.write_text("click\n" + "\n".join(values) + "\n")
    assert read_labels(path, schema, 3, lambda: pa.array(IDS)).label.tolist() == label


@pytest.mark.parametrize("has_id", [False, True])
def test_without_ids_rows_are_matched_by_number_or_else_by_order(
    small: PreparedDataset, tmp_path: Path, has_id: bool
) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"click": [0, 1, 0], "row_in_split": [2, 0, 1]}), path)
    by_number = read(small, path, has_id)
    assert (by_number.label.tolist(), by_number.is_by_order) == ([1, 0, 0], False)
    pq.write_table(pa.table({"click": [0, 1, 1]}), path)
    by_order = read(small, path, has_id)
    assert (by_order.label.tolist(), by_order.is_by_order) == ([0, 1, 1], True)
    pq.write_table(pa.table({"split": ["train", "test", "test", "test"], "click": [0, 0, 1, 0]}), path)
    assert read(small, path, has_id).label.tolist() == [0, 1, 0]
    pq.write_table(pa.table({"click": [0, 1]}), path)
    with pytest.raises(InputError, match="has 2 rows, expected 3, one for each row to score"):
        read(small, path, has_id)
