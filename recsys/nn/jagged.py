"""Jagged tensors: the events of rows, end to end. `recsys.data.jagged` is the same for arrays.

Shapes: B rows, T events of all of them, L events of the longest row, D width.
"""

import torch
from torch import Tensor


def row_of_event(length_B: Tensor, n_events: int) -> Tensor:
    """[T] int64: the row of each of `n_events` events."""
    rows = torch.arange(len(length_B), device=length_B.device)
    return torch.repeat_interleave(rows, length_B.long(), output_size=n_events)


def sum_by_row(x_TD: Tensor, row_T: Tensor, n_rows: int) -> Tensor:
    """[T, D] to [B, D]: the sum over each row's events; zeros where a row has none."""
    return x_TD.new_zeros(n_rows, *x_TD.shape[1:]).index_add(0, row_T, x_TD)


def mean_by_row(x_TD: Tensor, length_B: Tensor) -> Tensor:
    """[T, D] to [B, D]: the mean over each row's events; zeros where a row has none."""
    sum_BD = sum_by_row(x_TD, row_of_event(length_B, len(x_TD)), len(length_B))
    return sum_BD / length_B.clamp(min=1).to(sum_BD.dtype).unsqueeze(1)


def equal_weights(length_B: Tensor, dtype: torch.dtype) -> Tensor:
    """[B] 1 / length of each row, 1 where a row has no event."""
    return length_B.clamp(min=1).to(dtype).reciprocal()


def softmax_by_row(score_T: Tensor, row_T: Tensor, n_rows: int) -> Tensor:
    """[T] scores to weights that sum to one within each row."""
    lowest_B = score_T.new_full((n_rows,), -torch.inf)
    highest_B = lowest_B.scatter_reduce(0, row_T, score_T.detach(), "amax")
    exp_T = (score_T - highest_B.index_select(0, row_T)).exp()
    return exp_T / sum_by_row(exp_T, row_T, n_rows).index_select(0, row_T)


class PaddedRows:
    """Where the events of jagged rows are in a padded [B, L] array.

    Args:
        length_B: int64 events of each row.
    """

    def __init__(self, length_B: Tensor) -> None:
        self._n_rows, self._longest = len(length_B), int(length_B.max()) if len(length_B) else 0
        n_events = int(length_B.sum())
        row_T = row_of_event(length_B, n_events)
        start_B = length_B.cumsum(0) - length_B
        self.position = torch.arange(n_events, device=length_B.device) - start_B.index_select(0, row_T)
        """[T] int64: the position of each event in its row."""
        self._flat = row_T * self._longest + self.position

    def pad(self, x_TD: Tensor) -> Tensor:
        """[T, D] to [B, L, D], zeros where there is no event."""
        padded = x_TD.new_zeros(self._n_rows * self._longest, x_TD.shape[1])
        return padded.index_copy(0, self._flat, x_TD).view(self._n_rows, self._longest, -1)

    def unpad(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [T, D]."""
        return x_BLD.reshape(self._n_rows * self._longest, -1).index_select(0, self._flat)
