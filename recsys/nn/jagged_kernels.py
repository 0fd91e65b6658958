"""Triton kernels of jagged tensors on a GPU: each reads its input once, where general kernels pad or add atomically.

Shapes: B rows, T events of all rows, D width, V rows of a table.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_EVENTS_OF_A_SUM, _EVENTS_OF_A_GATHER = 32, 64


@triton.jit
def _sum(x_ptr, offset_ptr, out_ptr, D: tl.constexpr, WIDTH: tl.constexpr, LONGEST: tl.constexpr, N: tl.constexpr):
    row = tl.program_id(0)
    start, stop = tl.load(offset_ptr + row), tl.load(offset_ptr + row + 1)
    d, n = tl.arange(0, WIDTH), tl.arange(0, N)
    total = tl.zeros([N, WIDTH], tl.float32)
    for first in range(0, LONGEST, N):
        event = start + first + n
        is_inside = (event < stop)[:, None] & (d < D)[None, :]
        total += tl.load(x_ptr + event[:, None] * D + d[None, :], mask=is_inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * D + d, tl.sum(total, 0).to(out_ptr.dtype.element_ty), mask=d < D)


@triton.jit
def _gather(table_ptr, id_ptr, out_ptr, n_events, D: tl.constexpr, WIDTH: tl.constexpr, N: tl.constexpr):
    event, d = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N), tl.arange(0, WIDTH)
    is_event = event < n_events
    row = tl.load(id_ptr + event, mask=is_event, other=0).to(tl.int64)
    is_inside = is_event[:, None] & (d < D)[None, :]
    vector = tl.load(table_ptr + row[:, None] * D + d[None, :], mask=is_inside, other=0.0)
    tl.store(out_ptr + event[:, None] * D + d[None, :], vector, mask=is_inside)


@torch.library.custom_op("recsys::sum_events", mutates_args=())
def sum_events(x_TD: Tensor, offsets: Tensor, max_length: int) -> Tensor:
    """[T, D] to [B, D]: the sum in float32 over each row's events, given [B + 1] offsets and a row's most events."""
    x_TD, out = x_TD.contiguous(), _sums(x_TD, offsets, max_length)
    if len(out):
        width = triton.next_power_of_2(x_TD.shape[1])
        n_warps = 1 if width <= 32 else 2
        _sum[(len(out),)](x_TD, offsets, out, x_TD.shape[1], width, max_length, _EVENTS_OF_A_SUM, num_warps=n_warps)
    return out


@sum_events.register_fake
def _sums(x_TD: Tensor, offsets: Tensor, max_length: int) -> Tensor:
    return x_TD.new_empty(offsets.shape[0] - 1, x_TD.shape[1])


@torch.library.custom_op("recsys::gather_rows", mutates_args=())
def gather_rows(table_VD: Tensor, id_T: Tensor) -> Tensor:
    """The [T, D] rows of a contiguous table; like `index_select`, which is slow on a GPU for short rows."""
    out = _rows(table_VD, id_T)
    if len(out):
        grid = (triton.cdiv(len(out), _EVENTS_OF_A_GATHER),)
        width = triton.next_power_of_2(out.shape[1])
        _gather[grid](table_VD, id_T.contiguous(), out, len(out), out.shape[1], width, _EVENTS_OF_A_GATHER)
    return out


@gather_rows.register_fake
def _rows(table_VD: Tensor, id_T: Tensor) -> Tensor:
    return table_VD.new_empty(id_T.shape[0], table_VD.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    table_VD, id_T = inputs
    ctx.save_for_backward(id_T)
    ctx.n_rows = len(table_VD)


def _scatter(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None]:
    (id_T,) = ctx.saved_tensors
    return gradient_TD.new_zeros(ctx.n_rows, gradient_TD.shape[1]).index_add(0, id_T, gradient_TD), None


gather_rows.register_autograd(_scatter, setup_context=_save)
