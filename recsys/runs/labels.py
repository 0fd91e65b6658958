"""The labels of the rows to score, from a file that has them by id or by row number."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import Metrics, measure
from recsys.raw.blocks import Block
from recsys.raw.column_types import ColumnType
from recsys.raw.conversion import convert
from recsys.raw.derive import meets_condition
from recsys.raw.files.open import open_raw
from recsys.raw.ids_and_labels import read_label
from recsys.raw.side_tables import read_whole
from recsys.raw.tokens import encode_values
from recsys.raw.values import canonical_text
from recsys.runs.sample import check_distinct
from recsys.schema.config import Condition
from recsys.schema.kinds import SINGLE_KINDS, kind_of
from recsys.schema.resolved import Schema

_ROW_COLUMNS = ("row_in_split", "row_id")
_WORDS = frozenset({"true", "false"})


@dataclass(frozen=True)
class Labels:
    """The labels of the rows to score, in file order."""

    label: np.ndarray
    p: np.ndarray | None
    """[n] true probabilities; None if the file has none."""
    is_by_order: bool = False
    """Whether the file identifies no rows, so that row k of it is row k to score."""
    weight: np.ndarray | None = None
    """[n] weights of the rows; None if they have none."""
    log_sampling_rate: float = 0.0
    """ln of the share of negatives that are among the rows; a file of labels is taken as the full log."""

    def measure(self, logits: Logits) -> Metrics:
        """Computes all metrics of predictions of the rows."""
        return measure(self.label, replace(logits, log_sampling_rate=self.log_sampling_rate), self.weight)


def read_labels(path: Path, schema: Schema, n_rows: int, read_ids: Callable[[], pa.Array]) -> Labels:
    """Reads labels by id, or by row number (column `row_in_split`; `split` if the file has several partitions).

    Without ids and row numbers in the file, rows of an equal number are matched by their order.

    Args:
        path: the parquet, CSV or TSV file with labels.
        schema: the schema, with the names of the label and the id column.
        n_rows: number of rows to score.
        read_ids: returns the ids of the rows to score, as text.

    Raises:
        InputError: if the file does not have exactly the rows to score.
    """
    assert schema.label is not None, "ranking runs have a label"
    block = _read_columns(path, schema)
    position = block.table.column_names.index(schema.label)
    table = block.table.set_column(position, schema.label, pa.array(_derive_labels(block, schema.label, schema)))
    if "split" in table.column_names:
        table = table.filter(pc.equal(pc.cast(table["split"], pa.string()), "test"))
    is_by_order = False
    row_column = next((name for name in _ROW_COLUMNS if name in table.column_names), None)
    if (name := schema.id) is not None and name in table.column_names:
        ids = _as_text(table[name], name, path)
        check_distinct(ids, name, path)
        positions = pc.index_in(read_ids(), value_set=ids)
        order = np.full(n_rows, -1) if positions.null_count else positions.to_numpy()
    elif row_column is not None:
        row_numbers = _numbers(table, row_column, path)
        order = np.argsort(row_numbers, kind="stable")
        order = order if np.array_equal(row_numbers[order], np.arange(n_rows)) else np.full(n_rows, -1)
    elif table.num_rows == n_rows:
        order, is_by_order = np.arange(n_rows), True
    else:
        cures = f"a column {_ROW_COLUMNS[0]!r} of row numbers"
        cures = cures if schema.id is None else f"the ids as column {schema.id!r}, or {cures}"
        raise InputError(
            f"{path} has {table.num_rows:,} rows, expected {n_rows:,}, one for each row to score in their order: pass "
            f"their labels, or add {cures}"
        )
    if np.any(order < 0):
        raise InputError(
            f"{path} does not have exactly one row for each of the {n_rows:,} rows to score: pass their labels"
        )
    table = table.take(pa.array(order))
    label = table[schema.label].to_numpy()
    p = _numbers(table, "p", path) if "p" in table.column_names else None
    if p is not None and not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"{path}: column 'p' must contain probabilities in [0, 1]")
    return Labels(label, p, is_by_order)


def _derive_labels(block: Block, column: str, schema: Schema) -> np.ndarray:
    """Returns the [n] uint8 labels of a file's rows, derived as those of training rows are.

    Raises:
        InputError: for a null, or a value that is no label.
    """
    condition, table = schema.label_condition, block.table.select([column])
    dtype = table[column].type
    if condition is not None and kind_of(dtype) in SINGLE_KINDS:
        codes = encode_values(table[column], f"{block.span}: label column {column!r}")
        distinct = {value.lower() for value in codes.values.to_pylist()}
        expected = {value.lower() for value in condition.values or ()}
        if _are_labels(distinct, condition):
            schema = schema.model_copy(update={"label_condition": None})
        elif expected and distinct | expected <= _WORDS:
            dtype = pa.bool_()  # a CSV file writes the booleans of parquet files as words
    converted = convert(Block(table, block.origins), schema, {column: ColumnType(dtype, None)}, [column])
    return read_label(Block(converted, block.origins), schema)


def _are_labels(distinct: set[str], condition: Condition) -> bool:
    """Whether a column has labels, not the values of a label condition: both 0 and 1, neither of which it accepts."""
    if distinct not in ({"0", "1"}, _WORDS):
        return False
    if condition.values is not None:
        return distinct.isdisjoint(value.lower() for value in condition.values)
    return not meets_condition(condition, pa.array([0, 1])).any()


def _read_columns(path: Path, schema: Schema) -> Block:
    """Reads the columns that labels need, of those the file has."""
    names = [name for name in ("split", *_ROW_COLUMNS, schema.id, schema.label, "p") if name is not None]
    file = open_raw(path)
    columns = file.names
    if schema.label not in columns:
        raise InputError(f"{path} has no label column {schema.label!r}: pass a file with labels to --labels")
    if repeated := [name for name in names if columns.count(name) > 1]:
        raise InputError(f"{path} has {columns.count(repeated[0])} columns named {repeated[0]!r}: rename them")
    chosen = list(dict.fromkeys(name for name in names if name in columns))
    return read_whole(file, chosen)


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """[n] float64 values of a column, NaN for nulls."""
    try:
        return pc.cast(table[name], pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: column {name!r} must be numeric, got {table[name].type}") from error


def _as_text(column: pa.ChunkedArray, name: str, path: Path) -> pa.Array:
    """Converts ids to the text of the rows to score: the number 5.0 and the text "5" are the same id."""
    ids = column.combine_chunks()
    if pa.types.is_floating(ids.type) or pa.types.is_decimal(ids.type):
        return canonical_text(ids, f"{path}: column {name!r}")
    try:
        return pc.cast(ids, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: column {name!r} is {ids.type}, which cannot identify rows: write text") from error
