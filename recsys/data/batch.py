"""The input batch of every model.

Shapes: B rows of a batch, N dense columns.
"""

import itertools
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

    def take(self, index: Tensor) -> "Batch":
        """Returns the rows and items of an increasing [b] int64 index."""
        return Batch(
            dense=self.dense[index],
            sparse=_take_jagged(self.sparse, index),
            sequences=_take_jagged(self.sequences, index),
            label=self.label[index],
            row=self.row[index],
            is_real=self.is_real[index],
            n_rows=int((index < self.n_rows).sum()),
            weight=None if self.weight is None else self.weight[index],
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

    def counted(self) -> "Batch":
        """The same batch, which has counted the ids of every key: on a device, counting makes the host wait."""
        for jagged in (self.sparse, self.sequences):
            jagged.offset_per_key()
        return self

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


def events_of(offsets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the positions of the events of some rows of a jagged tensor, row after row, and their [b] lengths.

    Args:
        offsets: [B + 1] offsets of the rows.
        index: [b] rows.
    """
    starts = offsets[:-1][index].long()
    lengths = offsets[1:][index].long() - starts
    first = lengths.cumsum(0) - lengths
    owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), lengths)
    return starts[owner] + torch.arange(len(owner), device=index.device) - first[owner], lengths


def _take_jagged(jagged: KeyedJaggedTensor, index: Tensor) -> KeyedJaggedTensor:
    """Returns the rows of an index for every key."""
    n_keys = len(jagged.keys())
    if not n_keys:
        return jagged
    of_keys = torch.arange(n_keys, device=index.device).unsqueeze(1) * jagged.stride()
    position, lengths = events_of(jagged.offsets(), (of_keys + index).reshape(-1))
    weights = jagged.weights_or_none()
    return KeyedJaggedTensor(
        keys=jagged.keys(),
        values=jagged.values()[position],
        lengths=lengths.to(jagged.lengths().dtype),
        weights=None if weights is None else weights[position],
        stride=len(index),
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
    sizes = [sum(offsets[k + 1] - offsets[k] for _, offsets in key_offsets) for k in range(len(keys))]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.cat([jagged.values()[key_slice] for jagged, key_slice in slices]),
        lengths=torch.cat(lengths, dim=1).reshape(-1),
        weights=None if weights is None else torch.cat([jagged.weights()[key_slice] for jagged, key_slice in slices]),
        stride=first.stride() + second.stride(),
        length_per_key=sizes,
        offset_per_key=[0, *itertools.accumulate(sizes)],
    )
