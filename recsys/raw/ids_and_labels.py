"""Reads the ids, the labels and the weights of rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.blocks import Block
from recsys.raw.derive import meets_condition
from recsys.raw.tokens import as_array, null_for_nan
from recsys.raw.values import canonical_text
from recsys.schema.kinds import kind_of
from recsys.schema.resolved import Schema
from recsys.schema.weights import MAX_WEIGHT, RowWeight


def read_ids(block: Block, column: str) -> pa.Array:
    """Returns the [n] ids of a block: integers, or text. Text is unchanged, and a number has its canonical text.

    Raises:
        InputError: for a null id.
    """
    ids = null_for_nan(as_array(block.table[column]))
    if ids.null_count:
        path, row = block.place(int(np.flatnonzero(np.asarray(pc.is_null(ids)))[0]))
        raise InputError(f"{path}: id column {column!r} has nulls (such as in row {row}): every row needs a unique id")
    is_plain = pa.types.is_integer(ids.type) or kind_of(ids.type) == "text"
    return ids if is_plain else canonical_text(ids, f"{block.span}: id column {column!r}")


def label_cure(column: str) -> str:
    """What to do about a label that is not 0 or 1, for messages."""
    return f"write 0 and 1, or name the values of a click, label: {{column: {column!r}, values: ['...']}}"


def read_label(block: Block, schema: Schema) -> np.ndarray:
    """Returns the [n] uint8 labels of a block, 0 or 1; all 1 if the schema has no label.

    Raises:
        InputError: for a null or another label.
    """
    column, condition = schema.label, schema.label_condition
    if column is None:
        return np.ones(block.table.num_rows, np.uint8)
    values = null_for_nan(as_array(block.table[column]))
    if values.null_count:
        path, row = block.place(int(np.flatnonzero(np.asarray(pc.is_null(values)))[0]))
        raise InputError(f"{path}: label column {column!r} has nulls (such as in row {row}): every row needs its label")
    if condition is not None:
        try:
            return meets_condition(condition, values).astype(np.uint8)
        except InputError as error:
            raise InputError(f"{block.span}: {error}") from error
    requirement = "labels must be 0 or 1"
    if kind_of(values.type) not in ("number", "boolean"):
        raise InputError(
            f"{block.span}: label column {column!r} is {values.type}: {requirement}, as numbers: {label_cure(column)}"
        )
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    invalid = np.flatnonzero(~((numbers == 0) | (numbers == 1)))
    if len(invalid):
        path, row = block.place(int(invalid[0]))
        value = values[int(invalid[0])].as_py()
        raise InputError(f"{path}: label column {column!r} contains {value} in row {row}: {requirement}")
    return numbers.astype(np.uint8)


def read_weights(block: Block, weight: RowWeight, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the [n] float32 weights of a block, and whether each was clipped.

    Args:
        block: the rows.
        weight: the column of the weights.
        label: [n] 0 / 1; positives weigh one, and their values are not read, if the weights are those of negatives.

    Raises:
        InputError: for a value that gives no weight: null, negative or infinite, or outside (0, 1] for a sampling rate.
    """
    column = null_for_nan(as_array(block.table[weight.column]))
    values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    is_used = label == 0 if weight.negatives_only else np.ones(len(label), bool)
    is_valid = np.isfinite(values) & (values > 0 if weight.inverse else values >= 0)
    if weight.negatives_only:
        is_valid &= values <= 1
    with np.errstate(divide="ignore", over="ignore"):
        weights = np.where(is_used, 1 / values if weight.inverse else values, 1.0)
    is_clipped = is_used & (weights > (np.inf if weight.max is None else weight.max))
    weights[is_clipped] = weight.max
    if len(invalid := np.flatnonzero(is_used & ~(is_valid & (weights <= MAX_WEIGHT)))):
        path, row = block.place(int(invalid[0]))
        value = column[int(invalid[0])].as_py()
        expected = "in (0, 1]" if weight.negatives_only else "above 0" if weight.inverse else "from 0 on"
        if is_valid[invalid[0]]:
            expected = f"with a weight of at most {MAX_WEIGHT:g}"
        raise InputError(
            f"{path}: {weight.role} column {weight.column!r} contains {'null' if value is None else value} in row "
            f"{row}: every row needs a finite number {expected}, correct it or remove the row"
        )
    return weights.astype(np.float32), is_clipped
