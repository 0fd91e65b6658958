"""Functions on jagged tensors: the events of all rows, end to end. `recsys.data.jagged` has them for NumPy arrays.

Shapes: B rows of a batch, T events of all rows, L events of the longest row, D width.
"""

from typing import Any, cast

import fbgemm_gpu  # noqa: F401 (registers its operators)
import torch
from torch import Tensor
from torch.nn import functional

try:
    from recsys.nn import jagged_kernels as kernels
except ImportError:  # Triton comes with torch's builds for GPUs
    kernels = None  # type: ignore[assignment]


def row_of_event(length_B: Tensor, n_events: int) -> Tensor:
    """[T] int64: the row of each of `n_events` events."""
    rows = torch.arange(len(length_B), device=length_B.device)
    return torch.repeat_interleave(rows, length_B.long(), output_size=n_events)


def sum_by_row(x_TD: Tensor, row_T: Tensor, n_rows: int) -> Tensor:
    """[T, D] to [B, D]: the sum over each row's events; zeros for a row without events."""
    return x_TD.new_zeros(n_rows, *x_TD.shape[1:]).index_add(0, row_T, x_TD)


class EventRows:
    """The rows of jagged events: spreads vectors of rows to their events, and sums events by row.

    On a GPU, sums of gathered vectors would be atomic additions; there the sums follow the offsets of the rows.

    Args:
        length_B: number of events of each row.
        n_events: T.
        max_length: most events that a row may have.
    """

    def __init__(self, length_B: Tensor, n_events: int, max_length: int) -> None:
        self.length_B, self.n_rows = length_B, len(length_B)
        self.row_T = row_of_event(length_B, n_events)
        self._max_length = max_length
        self._offsets = functional.pad(length_B.cumsum(0), (1, 0)) if length_B.device.type == "cuda" else None

    def spread(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [T, D]: the vector of each event's row."""
        if self._offsets is None:
            return x_BD.index_select(0, self.row_T)
        return cast(Tensor, _Spread.apply(x_BD, self.row_T, self._offsets, self._max_length))

    def sum(self, x_TD: Tensor) -> Tensor:
        """[T, D] to [B, D]: the sum over each row's events; zeros for a row without events."""
        if self._offsets is None:
            return sum_by_row(x_TD, self.row_T, self.n_rows)
        return cast(Tensor, _Sum.apply(x_TD, self.row_T, self._offsets, self._max_length))


def _sum_by_offsets(x_TD: Tensor, offsets: Tensor, max_length: int) -> Tensor:
    """[T, D] to [B, D]: sums by row in float32, by a kernel if there is one, else through padded rows."""
    if kernels is not None and x_TD.device.type == "cuda":
        return kernels.sum_events(x_TD, offsets, max_length)
    padded_BLD = torch.ops.fbgemm.jagged_to_padded_dense(x_TD, [offsets], [max_length], 0.0)
    sum_BD: Tensor = padded_BLD.sum(dim=1, dtype=torch.float32).to(x_TD.dtype)
    return sum_BD


class _Spread(torch.autograd.Function):
    """The autograd function of `EventRows.spread`."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, row_T: Tensor, offsets: Tensor, max_length: int) -> Tensor:
        ctx.save_for_backward(offsets)
        ctx.max_length = max_length
        return x_BD.index_select(0, row_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (offsets,) = ctx.saved_tensors
        return _sum_by_offsets(gradients[0].contiguous(), offsets, ctx.max_length), None, None, None


class _Sum(torch.autograd.Function):
    """The autograd function of `EventRows.sum`."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, row_T: Tensor, offsets: Tensor, max_length: int) -> Tensor:
        ctx.save_for_backward(row_T)
        return _sum_by_offsets(x_TD.contiguous(), offsets, max_length)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (row_T,) = ctx.saved_tensors
        return gradients[0].index_select(0, row_T), None, None, None


def gather_rows(table_VD: Tensor, id_T: Tensor) -> Tensor:
    """The [T, D] rows of a contiguous table."""
    if kernels is not None and table_VD.device.type == "cuda":
        return cast(Tensor, kernels.gather_rows(table_VD, id_T))
    return table_VD.index_select(0, id_T)


def mean_by_row(x_TD: Tensor, length_B: Tensor) -> Tensor:
    """[T, D] to [B, D]: the mean over each row's events; zeros for a row without events."""
    sum_BD = sum_by_row(x_TD, row_of_event(length_B, len(x_TD)), len(length_B))
    return sum_BD / length_B.clamp(min=1).to(sum_BD.dtype).unsqueeze(1)


def equal_weights(length_B: Tensor, dtype: torch.dtype) -> Tensor:
    """[B] 1 / length of each row; 1 for a row without events."""
    return length_B.clamp(min=1).to(dtype).reciprocal()


def softmax_by_row(score_T: Tensor, row_T: Tensor, n_rows: int) -> Tensor:
    """[T] scores to weights that sum to one within each row."""
    minimum_B = score_T.new_full((n_rows,), -torch.inf)
    maximum_B = minimum_B.scatter_reduce(0, row_T, score_T.detach(), "amax")
    exp_T = (score_T - maximum_B.index_select(0, row_T)).exp()
    return exp_T / sum_by_row(exp_T, row_T, n_rows).index_select(0, row_T)


class PaddedRows:
    """Maps the events of jagged rows to a padded [B, L] array and back.

    Args:
        length_B: [B] int64 number of events of each row.
    """

    def __init__(self, length_B: Tensor) -> None:
        self._n_rows, self._max_length = len(length_B), int(length_B.max()) if len(length_B) else 0
        n_events = int(length_B.sum())
        row_T = row_of_event(length_B, n_events)
        start_B = length_B.cumsum(0) - length_B
        self.position = torch.arange(n_events, device=length_B.device) - start_B.index_select(0, row_T)
        """[T] int64: the position of each event in its row."""
        self._padded_index = row_T * self._max_length + self.position

    def pad(self, x_TD: Tensor) -> Tensor:
        """[T, D] to [B, L, D]; zeros in the padding."""
        padded = x_TD.new_zeros(self._n_rows * self._max_length, x_TD.shape[1])
        return padded.index_copy(0, self._padded_index, x_TD).view(self._n_rows, self._max_length, -1)

    def unpad(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [T, D]."""
        return x_BLD.reshape(self._n_rows * self._max_length, -1).index_select(0, self._padded_index)
