"""Offsets of numeric columns whose values float32 cannot tell apart, such as milliseconds since 1970.

Rows are stored as float32, which has 24 bits: near 1.7e12 its numbers are 131,072 apart. Where the typical distance of
a column's values from their median is less than 2^16 such steps, the median is subtracted in float64 before narrowing.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from recsys.data.config import PrepareConfig
from recsys.data.groups import PARTITIONS
from recsys.data.transforms import MAX_NUMBER
from recsys.prepare.scan import Scan, sample_hashes
from recsys.raw.numbers import exact_numbers
from recsys.raw.source import Source
from recsys.raw.tokens import as_array
from recsys.schema.kinds import value_type

_MIN_STEPS = 2**16
_EXACT = 2**24
"""Whole numbers below are exact in float32."""
_N_SENTINELS = 2
_NARROW = 2.0**-7
"""A range of values that is a smaller part than this of the largest one is looked at."""


def with_offsets(source: Source, scan: Scan, config: PrepareConfig) -> Source:
    """Returns the source whose schema has the offsets of its numeric columns, measured on training rows."""
    candidates = [column for column in source.schema.numbers if _may_need_offset(source, column)]
    if not candidates:
        return source
    n_rows = source.n_rows("train")
    is_train = scan.split[:n_rows] == PARTITIONS.index("train")
    rate = config.n_sampled_rows / max(int(np.count_nonzero(is_train)), 1)
    is_sampled = is_train & (sample_hashes(scan.hashes[:n_rows], config.seed) < rate)
    samples: dict[str, list[pa.Array]] = {column: [] for column in candidates}
    first_row = 0
    for block in source.blocks("train", candidates):
        rows = pa.array(is_sampled[first_row : first_row + block.table.num_rows])
        first_row += block.table.num_rows
        for column in candidates:
            samples[column].append(as_array(block.table[column].filter(rows)))
    offsets = {column: offset_of(_joined(parts)) for column, parts in samples.items()}
    offsets = {column: offset for column, offset in offsets.items() if offset}
    return replace(source, schema=source.schema.model_copy(update={"offsets": offsets}))


def _may_need_offset(source: Source, column: str) -> bool:
    """Whether a column may hold numbers that float32 cannot tell apart."""
    dtype = value_type(source.references[column].dtype)
    is_narrow = pa.types.is_boolean(dtype) or pa.types.is_float32(dtype) or pa.types.is_float16(dtype)
    if is_narrow or (pa.types.is_integer(dtype) and dtype.bit_width <= 16):
        return False
    known = source.number_range(column)
    if known is None:
        return True
    low, high = known
    largest = max(abs(low), abs(high))
    return largest >= _EXACT or high - low < largest * _NARROW


def _joined(parts: list[pa.Array]) -> np.ndarray:
    """Returns [n] sampled numbers, int64 if all of them are, else float64."""
    numbers = [exact_numbers(part.drop_null()) for part in parts]
    if all(part.dtype == np.int64 for part in numbers):
        return np.concatenate(numbers)
    return np.concatenate([part.astype(np.float64) for part in numbers])


def offset_of(values: np.ndarray) -> float:
    """Returns the offset of a column from a sample of [n] int64 or float64 values; 0 if it needs none."""
    values = np.sort(values[np.isfinite(values)])
    is_small = np.abs(values.astype(np.float64)) < _EXACT
    if len(np.unique(values[is_small])) <= _N_SENTINELS and not is_small.all():
        values = values[~is_small]  # such as 0 for "never" beside times
    if len(values) == 0:
        return 0.0
    median = values[(len(values) - 1) // 2]
    if abs(float(median)) > MAX_NUMBER:
        return 0.0
    with np.errstate(over="ignore"):
        distance = np.sort(np.abs(values - median))
    spread = float(distance[len(values) // 2]) or float(distance[-1])
    step = float(np.spacing(np.float32(abs(float(median)))))
    return float(median) if 0.0 < spread < _MIN_STEPS * step else 0.0
