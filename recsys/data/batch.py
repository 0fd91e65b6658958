"""The input batch of every model.

Shapes: B rows of a batch, N dense columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor
from torchrec.streamable import Pipelineable


@dataclass
class Batch(Pipelineable):
    """B rows of a split.

    A categorical feature has length 1 in every row, because a missing value has its own id. A sequence has one entry
    per event of the row.
    """

    dense: Tensor
    """[B, N] float32: transformed numbers (0 for null), then missing indicators, then any extra column."""
    sparse: KeyedJaggedTensor
    """Ids of the categorical features."""
    sequences: KeyedJaggedTensor
    """Ids of the requested sequence features. If one of them is a group of columns, the tensor has weights: the ids of
    the group are its steps and the weights their values; tokens have weight 1."""
    label: Tensor
    """[B] float32: 0, 1, or NaN for rows without a label."""
    row: Tensor
    """[B] int64: row numbers in the store."""
    is_real: Tensor
    """[B] bool: False for copies that pad a process's share of a batch. The loss ignores them."""
    n_rows: int
    """Number of rows of the store among the B; the entries after them are items only, see `retrieval.negatives`."""
    weight: Tensor | None = None
    """[B] float32 weights of the losses, with a mean of one over the fitting rows; None if rows have no weights."""

    def __len__(self) -> int:
        return self.label.shape[0]

    def narrow(self, start: int, length: int) -> "Batch":
        """Returns rows start .. start + length."""
        rows = slice(start, start + length)
        return Batch(
            dense=self.dense[rows],
            sparse=_narrow_jagged(self.sparse, start, length),
            sequences=_narrow_jagged(self.sequences, start, length),
            label=self.label[rows],
            row=self.row[rows],
            is_real=self.is_real[rows],
            n_rows=min(max(self.n_rows - start, 0), length),
            weight=None if self.weight is None else self.weight[rows],
        )

    def append_items(self, items: "Batch") -> "Batch":
        """Appends a batch that contains only items, with the same features."""
        assert self.n_rows == len(self)
        assert items.n_rows == 0
        return Batch(
            dense=torch.cat([self.dense, items.dense]),
            sparse=_concat_jagged(self.sparse, items.sparse),
            sequences=_concat_jagged(self.sequences, items.sequences),
            label=torch.cat([self.label, items.label]),
            row=torch.cat([self.row, items.row]),
            is_real=torch.cat([self.is_real, items.is_real]),
            n_rows=self.n_rows,
            weight=None if self.weight is None else torch.cat([self.weight, self.weight.new_ones(len(items))]),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Moves the batch to a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Copies the batch to page-locked memory, from which a GPU copies asynchronously."""
        return self._map(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keeps the memory until the work queued on a stream has finished."""
        for tensor in (self.dense, self.sparse, self.sequences, self.label, self.row, self.is_real, self.weight):
            if tensor is not None:
                tensor.record_stream(stream)

    def _map(self, move: Callable[[Any], Any]) -> "Batch":
        """Applies a function to every tensor."""
        return Batch(
            dense=move(self.dense),
            sparse=move(self.sparse),
            sequences=move(self.sequences),
            label=move(self.label),
            row=move(self.row),
            is_real=move(self.is_real),
            n_rows=self.n_rows,
            weight=None if self.weight is None else move(self.weight),
        )


def _narrow_jagged(jagged: KeyedJaggedTensor, start: int, length: int) -> KeyedJaggedTensor:
    """Returns rows start .. start + length of every key."""
    if not jagged.keys():
        return jagged
    weights = jagged.weights_or_none()
    lengths = jagged.lengths().view(len(jagged.keys()), -1)[:, start : start + length]
    starts = jagged.offsets().view(-1)[:-1].view(len(jagged.keys()), -1)
    ends = jagged.offsets()[1:].view(len(jagged.keys()), -1)
    bounds = [(0, 0)] * len(jagged.keys())
    if length:
        bounds = list(zip(starts[:, start].tolist(), ends[:, start + length - 1].tolist(), strict=True))
    return KeyedJaggedTensor(
        keys=jagged.keys(),
        values=torch.cat([jagged.values()[a:b] for a, b in bounds]),
        lengths=lengths.reshape(-1),
        weights=None if weights is None else torch.cat([weights[a:b] for a, b in bounds]),
        stride=length,
    )


def _concat_jagged(first: KeyedJaggedTensor, second: KeyedJaggedTensor) -> KeyedJaggedTensor:
    """Concatenates the rows of two tensors for every key."""
    keys = first.keys()
    if not keys:
        return first
    weights = first.weights_or_none()
    key_offsets = [(jagged, jagged.offset_per_key()) for jagged in (first, second)]
    slices = [(jagged, slice(offsets[k], offsets[k + 1])) for k in range(len(keys)) for jagged, offsets in key_offsets]
    lengths = [jagged.lengths().view(len(keys), -1) for jagged in (first, second)]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.cat([jagged.values()[key_slice] for jagged, key_slice in slices]),
        lengths=torch.cat(lengths, dim=1).reshape(-1),
        weights=None if weights is None else torch.cat([jagged.weights()[key_slice] for jagged, key_slice in slices]),
        stride=first.stride() + second.stride(),
    )
