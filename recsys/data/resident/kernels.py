"""Triton kernels that encode resident rows on a GPU.

Shapes: B rows, C transformed columns, I intervals of a column.
"""

import triton
import triton.language as tl
from torch import Tensor

_ROWS_OF_A_PROGRAM = 16


@triton.jit
def _interpolate(
    value_ptr, column_ptr, start_ptr, width_ptr, score_ptr, rise_ptr, ends_ptr, n_rows, n_columns, n_transformed,
    WIDTH: tl.constexpr, N_INTERVALS: tl.constexpr, N_STEPS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    row, c = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N), tl.arange(0, WIDTH)
    is_column = c < n_transformed
    place = row[:, None] * n_columns + tl.load(column_ptr + c, mask=is_column, other=0)[None, :]
    is_inside = (row < n_rows)[:, None] & is_column[None, :]
    x = tl.load(value_ptr + place, mask=is_inside, other=0.0).to(tl.float64)
    first = tl.zeros([N, WIDTH], tl.int32) + c[None, :] * N_INTERVALS
    interval = first
    for power in tl.static_range(N_STEPS):
        step = N_INTERVALS >> (power + 1)
        is_above = tl.load(start_ptr + interval + step, mask=is_inside, other=0.0) <= x
        interval += tl.where(is_above, step, 0)
    low = tl.load(ends_ptr + 2 * c, mask=is_column, other=0.0)[None, :]
    high = tl.load(ends_ptr + 2 * c + 1, mask=is_column, other=0.0)[None, :]
    offset = tl.minimum(tl.maximum(x, low), high) - tl.load(start_ptr + interval, mask=is_inside, other=0.0)
    share = offset / tl.load(width_ptr + interval, mask=is_inside, other=1.0)
    rise = tl.load(rise_ptr + interval, mask=is_inside, other=0.0)
    score = tl.load(score_ptr + interval, mask=is_inside, other=0.0)
    tl.store(value_ptr + place, (share * rise + score).to(tl.float32), mask=is_inside & (x == x))  # NaN stays


def interpolate(
    values: Tensor, columns: Tensor, start: Tensor, width: Tensor, score: Tensor, rise: Tensor, ends: Tensor
) -> None:
    """`recsys.data.transforms.QuantileNormal` for [B, n_columns] contiguous float32 values, in place.

    Args:
        values: the values.
        columns: [C] int64 columns to transform.
        start: [C, I] float64 starts of the intervals, increasing; I is a power of 2.
        width: their widths.
        score: normal scores at their starts.
        rise: increases of the score.
        ends: [C, 2] lowest and highest knot.
    """
    (n_transformed, n_intervals), n_steps = start.shape, start.shape[1].bit_length() - 1
    tables = (columns, start, width, score, rise, ends)
    grid = (triton.cdiv(len(values), _ROWS_OF_A_PROGRAM),)
    sizes = (len(values), values.shape[1], n_transformed)
    width_of_block = triton.next_power_of_2(n_transformed)
    _interpolate[grid](values, *tables, *sizes, width_of_block, n_intervals, n_steps, _ROWS_OF_A_PROGRAM)
