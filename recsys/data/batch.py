"""The batch that every model reads."""

from dataclasses import dataclass

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
    row_id: Tensor
    """[B] int64: the row's number in the prepared data set."""

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
            row_id=self.row_id[rows],
        )

    def followed_by(self, other: "Batch") -> "Batch":
        """These rows, then another batch's of the same features."""
        return Batch(
            dense=torch.cat([self.dense, other.dense]),
            sparse=_follow(self.sparse, other.sparse),
            sequences=_follow(self.sequences, other.sequences),
            label=torch.cat([self.label, other.label]),
            row_id=torch.cat([self.row_id, other.row_id]),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on a device."""
        return Batch(
            dense=self.dense.to(device, non_blocking=non_blocking),
            sparse=self.sparse.to(device, non_blocking=non_blocking),
            sequences=self.sequences.to(device, non_blocking=non_blocking),
            label=self.label.to(device, non_blocking=non_blocking),
            row_id=self.row_id.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from where a GPU copies without waiting."""
        return Batch(
            dense=self.dense.pin_memory(),
            sparse=self.sparse.pin_memory(),
            sequences=self.sequences.pin_memory(),
            label=self.label.pin_memory(),
            row_id=self.row_id.pin_memory(),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keeps the memory until the work queued on a stream is done with it."""
        self.dense.record_stream(stream)
        self.sparse.record_stream(stream)
        self.sequences.record_stream(stream)
        self.label.record_stream(stream)
        self.row_id.record_stream(stream)


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


def _follow(first: KeyedJaggedTensor, second: KeyedJaggedTensor) -> KeyedJaggedTensor:
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
