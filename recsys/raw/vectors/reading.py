"""Checks the vectors of raw files, row by row, and reads their numbers.

Shapes: n rows, d numbers of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.transforms import MAX_NUMBER
from recsys.errors import InputError
from recsys.raw.blocks import Block
from recsys.raw.tokens import as_array
from recsys.schema.features import VectorFeature


def check_vectors(block: Block, vectors: Sequence[VectorFeature]) -> None:
    """Checks that every vector of a block has the size of its column, and finite numbers.

    Raises:
        InputError: for the first vector of another size, or with an infinite number, with its file and row.
    """
    for vector in vectors:
        if (wrong := first_wrong_vector(as_array(block.table[vector.name]), vector.size)) is None:
            continue
        (path, row), size = block.place(wrong.row), wrong.size
        if size is None:
            raise InputError(
                f"{path}: column {vector.name!r} has an infinite number in row {row}: write finite numbers, or null in "
                "place of the vector"
            )
        raise InputError(
            f"{path}: column {vector.name!r} has a vector of {size} numbers in row {row}, but its size is "
            f"{vector.size}: all vectors of a column must have one size; correct the row (null if it has none), or "
            f"schema.vectors.{vector.name}.size"
        )


@dataclass(frozen=True)
class WrongVector:
    """A vector that cannot be read."""

    row: int
    size: int | None
    """Its size; None for a vector of the right size with an infinite number."""


def first_wrong_vector(array: pa.Array, size: int) -> WrongVector | None:
    """Returns the first of [n] vectors that has another size, else the first one with an infinite number, if any."""
    lengths = pc.fill_null(pc.list_value_length(array), size).to_numpy(zero_copy_only=False)
    if len(wrong := np.flatnonzero(lengths != size)):
        return WrongVector(int(wrong[0]), int(lengths[wrong[0]]))
    is_infinite = (np.abs(_components(array, size)) > MAX_NUMBER).any(axis=1)
    if len(wrong := np.flatnonzero(is_infinite)):
        return WrongVector(int(np.flatnonzero(np.asarray(pc.is_valid(array)))[wrong[0]]), None)
    return None


def read_vectors(column: pa.Array | pa.ChunkedArray, size: int) -> np.ndarray:
    """Reads vectors without a wrong one.

    Args:
        column: [n] lists of numbers.
        size: d.

    Returns:
        [n, d] float32. A row is NaN if its vector is null, or a number of it is null or NaN.
    """
    array = as_array(column)
    values = np.full((len(array), size), np.nan, np.float32)
    components = _components(array, size).astype(np.float32)
    components[np.isnan(components).any(axis=1)] = np.nan
    values[np.asarray(pc.is_valid(array))] = components
    return values


def _components(array: pa.Array, size: int) -> np.ndarray:
    """Returns the [n_valid, d] numbers of the vectors that are not null, NaN for null."""
    flat = array.flatten()  # without null vectors
    is_float = pa.types.is_float32(flat.type) or pa.types.is_float64(flat.type)
    numbers = (flat if is_float else pc.cast(flat, pa.float64(), safe=False)).to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, size)
