"""Numbers and vectors of a request as float32 numbers, the same as `recsys.prepare.digest` reads from files.

Shapes: n rows, M columns, d numbers of a vector.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.raw.numbers import narrowed, read_numbers
from recsys.raw.vectors.reading import first_wrong_vector, read_vectors
from recsys.schema.features import VectorFeature
from recsys.schema.kinds import Kind, kind_of, value_type
from serving.runtime.values import RawColumn

_PLAIN = {float, int, type(None)}


class NumberReader:
    """Reads numeric columns.

    Args:
        kinds: kinds of the columns in the training data.
        offsets: numbers that are subtracted before narrowing, by column.
    """

    def __init__(self, kinds: Mapping[str, Kind], offsets: Mapping[str, float]) -> None:
        self._kinds, self._offsets = kinds, offsets
        self._careful = {name for name, kind in kinds.items() if kind == "boolean"} | offsets.keys()

    def read_row(self, values: Sequence[Any], names: Sequence[str]) -> np.ndarray:
        """Reads one row, a value for each name, as [1, M] float32, NaN for null.

        Raises:
            InputError: for a value that is not a number, or not of the kind of the training data.
        """
        if set(map(type, values)) <= _PLAIN and self._careful.isdisjoint(names):
            try:
                return narrowed(np.array([values], np.float64))
            except OverflowError:
                pass
        return self._one_by_one([[value] for value in values], names, 1)

    def read_columns(self, columns: Sequence[Any], names: Sequence[str], n: int) -> np.ndarray:
        """Reads lists of n values, or Arrow arrays, one for each name, as [n, M] float32, NaN for null.

        Raises:
            InputError: as `read_row`.
        """
        if names and self._careful.isdisjoint(names) and (read := _read_plain(columns)) is not None:
            return narrowed(read)
        return self._one_by_one(columns, names, n)

    def _one_by_one(self, columns: Sequence[Any], names: Sequence[str], n: int) -> np.ndarray:
        values = np.empty((n, len(names)), np.float32)
        for index, (name, column) in enumerate(zip(names, columns, strict=True)):
            numbers = _read_column(RawColumn(name, column), self._kinds.get(name), self._offsets.get(name, 0.0))
            values[:, index] = numbers
        return values


def _read_plain(columns: Sequence[Any]) -> np.ndarray | None:
    """Reads columns that hold plain numbers as [n, M] float64; None if one of them needs the careful way."""
    if all(isinstance(column, pa.Array) for column in columns):
        return _read_arrays(columns)
    if any(isinstance(column, pa.Array) or not set(map(type, column)) <= _PLAIN for column in columns):
        return None
    try:
        return np.array(columns, np.float64).T
    except OverflowError:
        return None


def _read_arrays(columns: Sequence[Any]) -> np.ndarray | None:
    is_plain = all(
        isinstance(column, pa.Array)
        and (pa.types.is_float64(column.type) or pa.types.is_float32(column.type) or _is_short(column.type))
        for column in columns
    )
    if not is_plain:
        return None
    batch = pa.RecordBatch.from_arrays(list(columns), names=[str(number) for number in range(len(columns))])
    return np.asarray(batch.to_tensor(null_to_nan=True).to_numpy(), np.float64)


def _is_short(dtype: pa.DataType) -> bool:
    """Whether a type is an integer that float64 holds exactly with any other column of the tensor."""
    return pa.types.is_integer(dtype) and dtype.bit_width <= 16


def _read_column(column: RawColumn, kind: Kind | None, offset: float) -> np.ndarray:
    """Reads [n] float64 numbers of one column."""
    found = column.kind
    if found == "null":
        return np.full(len(column.values), np.nan)
    if found not in ("number", "boolean"):
        raise InputError(f"column {column.name!r} is numeric, but contains {found}: write numbers or null")
    if kind is not None and kind != "null" and found != kind:
        raise InputError(
            f"column {column.name!r} contains values of kind {found}, but the training data has {kind}: "
            "write them with that kind"
        )
    return read_numbers(column.array(column.values), offset)


def read_vector_column(vector: VectorFeature, values: Sequence[Any] | pa.Array) -> np.ndarray:
    """Reads the vectors of a request: lists of numbers, or null.

    Returns:
        [n, d] float32; NaN for a vector that is null, or contains null or NaN.

    Raises:
        InputError: for a vector of another size, or with something else than finite numbers.
    """
    cure = f"write a list of {vector.size} numbers, or null"
    array = _list_array(vector, values, cure)
    if (wrong := first_wrong_vector(array, vector.size)) is not None:
        problem = "an infinite number" if wrong.size is None else f"{wrong.size} numbers"
        raise InputError(f"column {vector.name!r} has a vector with {problem} in row {wrong.row}: {cure}")
    return read_vectors(array, vector.size)


def _list_array(vector: VectorFeature, values: Sequence[Any] | pa.Array, cure: str) -> pa.Array:
    """Returns values as an Arrow array of lists of numbers."""
    try:
        array = values if isinstance(values, pa.Array) else pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"column {vector.name!r} is a vector, but contains other values: {cure}") from error
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.list_(pa.float64()))
    if kind_of(array.type) != "list" or kind_of(value_type(array.type)) not in ("number", "null"):
        raise InputError(f"column {vector.name!r} is a vector, but contains {array.type}: {cure}")
    return array
