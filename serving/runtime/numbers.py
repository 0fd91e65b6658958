"""Numeric columns of a request as float32 numbers, the same as `recsys.prepare.digest` reads from files.

Shapes: n rows, M columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data.transforms import MAX_NUMBER
from recsys.errors import InputError
from recsys.raw.numbers import read_numbers
from recsys.schema.kinds import Kind
from serving.runtime.values import RawColumn

_PLAIN = {float, int, type(None)}


def read_matrix(
    columns: Mapping[str, Any], names: Sequence[str], kinds: Mapping[str, Kind], offsets: Mapping[str, float], n: int
) -> np.ndarray:
    """Reads [n, M] float32 numbers, NaN for null.

    Args:
        columns: lists of Python values or Arrow arrays, by name.
        names: the M columns to read.
        kinds: kinds of the columns in the training data.
        offsets: numbers that are subtracted before narrowing, by column.
        n: rows.

    Raises:
        InputError: for a value that is not a number, or not of the kind of the training data.
    """
    values = np.empty((n, len(names)), np.float32)
    plain = [name for name in names if name not in offsets and kinds.get(name) != "boolean"]
    read = _read_plain([columns[name] for name in plain]) if plain else None
    if read is not None:
        with np.errstate(over="ignore"):
            if len(plain) == len(names):
                values[:] = read
            else:
                values[:, [names.index(name) for name in plain]] = read
    done = set(plain) if read is not None else set()
    for index, name in enumerate(names):
        if name not in done:
            values[:, index] = _read_column(RawColumn(name, columns[name]), kinds.get(name), offsets.get(name, 0.0))
    return values


def _read_plain(columns: Sequence[Any]) -> np.ndarray | None:
    """Reads columns that hold plain numbers as [n, M] float64; None if one of them needs the careful way."""
    if isinstance(columns[0], pa.Array):
        return _read_arrays(columns)
    if any(isinstance(column, pa.Array) for column in columns):
        return None
    if len(columns[0]) == 1:
        flat = [column[0] for column in columns]
        if not set(map(type, flat)) <= _PLAIN:
            return None
        lists: Any = [flat]
    else:
        if not all(set(map(type, column)) <= _PLAIN for column in columns):
            return None
        lists = columns
    try:
        numbers = np.array(lists, np.float64)
    except OverflowError:
        return None
    return _limited(numbers if len(columns[0]) == 1 else numbers.T)


def _read_arrays(columns: Sequence[Any]) -> np.ndarray | None:
    is_plain = all(
        isinstance(column, pa.Array)
        and (pa.types.is_float64(column.type) or pa.types.is_float32(column.type) or _is_short(column.type))
        for column in columns
    )
    if not is_plain:
        return None
    batch = pa.RecordBatch.from_arrays(list(columns), names=[str(number) for number in range(len(columns))])
    return _limited(batch.to_tensor(null_to_nan=True).to_numpy().astype(np.float64))


def _is_short(dtype: pa.DataType) -> bool:
    """Whether a type is an integer that float64 holds exactly with any other column of the tensor."""
    return pa.types.is_integer(dtype) and dtype.bit_width <= 16


def _limited(numbers: np.ndarray) -> np.ndarray:
    """Returns the numbers, infinite beyond `MAX_NUMBER`."""
    is_large = np.abs(numbers) > MAX_NUMBER
    return np.where(is_large, np.copysign(np.inf, numbers), numbers) if is_large.any() else numbers


def _read_column(column: RawColumn, kind: Kind | None, offset: float) -> np.ndarray:
    """Reads [n] float64 numbers of one column."""
    found = column.kind
    if found == "null":
        return np.full(len(column.values), np.nan)
    if found not in ("number", "boolean"):
        raise InputError(f"column {column.name!r} is numeric, but contains {found}: write numbers or null")
    if kind is not None and kind != "null" and found != kind:
        raise InputError(f"column {column.name!r} contains values of kind {found}, but the training data has {kind}: "
                         "write them with that kind")
    return read_numbers(column.array(column.values), offset)
