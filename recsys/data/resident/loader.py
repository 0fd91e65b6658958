"""Loads batches of resident rows, in the order of `recsys.data.loader`.

Shapes: n positions of the reading order, B rows of a batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from recsys.data.batch import Batch
from recsys.data.loader import Batches, BatchOrder, Loader
from recsys.data.resident.draws import permuted
from recsys.data.resident.encoder import ResidentBatches
from recsys.data.resident.rows import ResidentRows
from recsys.data.rows import Permutation, Rows
from recsys.data.split import Split, UnseenIds
from recsys.system.world import World


def resident_batches(batches: Batches, rows: ResidentRows) -> ResidentBatches | None:
    """Returns what makes the same batches of resident rows; None if nothing does."""
    match batches:
        case Split():
            return ResidentBatches(batches, rows)
        case UnseenIds():
            return ResidentBatches(batches.split, rows, batches)
    return None


AnyBatches = Batches | ResidentBatches
"""What makes batches, on the host or on the device."""


def open_loader(
    batches: AnyBatches,
    rows: Rows,
    batch_size: int,
    sequences: Sequence[str] = (),
    shuffle: Permutation | None = None,
    first: int = 0,
    world: World | None = None,
) -> "AnyLoader":
    """Returns the loader for what makes the batches; the arguments are those of `Loader`."""
    if isinstance(batches, ResidentBatches):
        return ResidentLoader(batches, rows, batch_size, sequences, shuffle, first, world)
    return Loader(batches, rows, batch_size, sequences, shuffle, first, world)


class ResidentLoader(BatchOrder):
    """Iterates over resident rows once, in batches: the same batches as `Loader` makes.

    The order of the whole pass is computed on the device before the first batch; then the host waits no more.

    Args:
        batches: makes a batch of row numbers on the device.
        rows: the rows to read.
        batch_size: rows per batch; the last batch may be smaller.
        sequences: the sequence features to read.
        shuffle: a seeded permutation of the rows; None keeps their order.
        first: index of the first batch.
        world: the processes that share each batch; None for a single process.
    """

    waited_s = 0.0
    """Batches need no waiting."""

    def __init__(
        self,
        batches: ResidentBatches,
        rows: Rows,
        batch_size: int,
        sequences: Sequence[str] = (),
        shuffle: Permutation | None = None,
        first: int = 0,
        world: World | None = None,
    ) -> None:
        super().__init__(rows, batch_size, world)
        self._batches, self._sequences, self._shuffle, self._first = batches, tuple(sequences), shuffle, first

    @torch.no_grad()
    def __iter__(self) -> Iterator[Batch]:
        device, shuffle = self._batches.rows.device, self._shuffle
        row = self._batches.numbers(self._rows)
        if shuffle is not None:
            row = row.index_select(0, permuted(shuffle, device))
        counts = {name: self._count(row, name) for name in self._sequences}
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # batches may be made on another stream
        for index in range(self._first, len(self)):
            share, start = self.positions(index), index * self._batch_size
            mine = row[share.start : share.stop]
            if shuffle is not None:
                mine = mine.sort().values
            if n_missing := self.n_padding(index):
                mine = torch.cat([mine, row[start].expand(n_missing)])
            n_tokens = {name: int(totals[index]) for name, totals in counts.items()}
            batch = self._batches.batch(mine, self._sequences, n_tokens)
            if n_missing:
                batch.is_real[len(share) :] = False
            yield batch

    def _count(self, row: Tensor, sequence: str) -> list[int]:
        """Returns the number of tokens of a sequence in this process's share of every batch."""
        sums = torch.zeros(len(row) + 1, dtype=torch.int64, device=row.device)
        for start in range(0, len(row), _COUNTED_AT_ONCE):
            part = slice(start, start + _COUNTED_AT_ONCE)
            sums[1:][part] = self._batches.lengths(row[part], sequence)
        lengths, sums = sums[1:].clone(), sums.cumsum(0)
        shares = [self.positions(index) for index in range(len(self))]
        bounds = torch.tensor([[share.start, share.stop] for share in shares], dtype=torch.int64).view(-1, 2)
        first = torch.arange(len(self)) * self._batch_size
        starts, stops = sums[bounds.to(row.device)].T
        n_padding = torch.tensor([self.n_padding(index) for index in range(len(self))], dtype=torch.int64)
        padding = lengths[first.to(row.device)] * n_padding.to(row.device)
        return (stops - starts + padding).tolist()


_COUNTED_AT_ONCE = 1 << 20
AnyLoader = Loader | ResidentLoader
