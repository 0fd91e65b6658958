"""Reads the ids and the labels of rows."""

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
        raise InputError(f"{block.span}: label column {column!r} is {values.type}: {requirement}, as numbers")
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    invalid = np.flatnonzero(~((numbers == 0) | (numbers == 1)))
    if len(invalid):
        path, row = block.place(int(invalid[0]))
        value = values[int(invalid[0])].as_py()
        raise InputError(f"{path}: label column {column!r} contains {value} in row {row}: {requirement}")
    return numbers.astype(np.uint8)
