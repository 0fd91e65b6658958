"""The batch that every model reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor
from torchrec.streamable import Pipelineable


@dataclass
class Batch(Pipelineable):
    """B rows of a split. Shapes: B rows, N dense columns.

    Lengths say what is present: a categorical feature has length 1 in every row (its missing value has an id of its
    own), a sequence has as many entries as the row has events.
    """

    dense: Tensor
    """[B, N] float32: transformed numbers (0 where null), then missing indicators."""
    sparse: KeyedJaggedTensor
    """Ids of the categorical features."""
    sequences: KeyedJaggedTensor
    """Ids of the sequence features that were asked for. Where one of them is a group of columns, the ids are the steps
    and the weights their values; tokens then weigh 1."""
    label: Tensor
    """[B] float32: 0, 1, or NaN for rows without a label."""
    row: Tensor
    """[B] int64: the row's number in the store."""
    is_real: Tensor
    """[B] bool: False for copies that only fill up a process's share of a batch. Their losses count for nothing."""
    n_rows: int
    """How many of the B are rows of the store; what follows them are items alone, see `retrieval.negatives`."""

    def __len__(self) -> int:
        return self.label.shape[0]

    def narrow(self, start: int, length: int) -> "Batch":
        """The rows start .. start + length."""
        rows = slice(start, start + length)
        return Batch(
            dense=self.dense[rows],
            sparse=_narrow_jagged(self.sparse, start, length),
            sequences=_narrow_jagged(self.sequences, start, length),
            label=self.label[rows],
            row=self.row[rows],
            is_real=self.is_real[rows],
            n_rows=min(max(self.n_rows - start, 0), length),
        )

    def followed_by(self, items: "Batch") -> "Batch":
        """These rows, then a batch of items alone with the same features."""
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
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on a device."""
        return self._map(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from where a GPU copies without waiting."""
        return self._map(lambda part: part.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keeps the memory until the work queued on a stream is done with it."""
        for part in (self.dense, self.sparse, self.sequences, self.label, self.row, self.is_real):
            part.record_stream(stream)

    def _map(self, move: Callable[[Any], Any]) -> "Batch":
        """The same batch with every tensor moved."""
        return Batch(
            dense=move(self.dense),
            sparse=move(self.sparse),
            sequences=move(self.sequences),
            label=move(self.label),
            row=move(self.row),
            is_real=move(self.is_real),
            n_rows=self.n_rows,
        )


def _narrow_jagged(jagged: KeyedJaggedTensor, start: int, length: int) -> KeyedJaggedTensor:
    """The rows start .. start + length of every key."""
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
    """The rows of one, then those of the other, of every key."""
    keys = first.keys()
    if not keys:
        return first
    weights = first.weights_or_none()
    bounds = [(jagged, jagged.offset_per_key()) for jagged in (first, second)]
    slices = [(jagged, slice(ends[k], ends[k + 1])) for k in range(len(keys)) for jagged, ends in bounds]
    lengths = [jagged.lengths().view(len(keys), -1) for jagged in (first, second)]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.cat([jagged.values()[part] for jagged, part in slices]),
        lengths=torch.cat(lengths, dim=1).reshape(-1),
        weights=None if weights is None else torch.cat([jagged.weights()[part] for jagged, part in slices]),
        stride=first.stride() + second.stride(),
    )
