"""Loads batches of resident rows, in the order of `recsys.data.loader`.

Shapes: n positions of the reading order, B rows of a batch.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from recsys.data.batch import Batch
from recsys.data.loader import Batches, BatchOrder, Loader, MayReside
from recsys.data.resident.draws import permuted
from recsys.data.resident.encoder import ResidentBatches
from recsys.data.resident.rows import ResidentRows, fits_on
from recsys.data.rows import Permutation, Rows
from recsys.data.split import Split, UnseenIds
from recsys.errors import InputError
from recsys.system.world import World


def resident_batches(batches: Batches, rows: ResidentRows) -> ResidentBatches | None:
    """Returns what makes the same batches of resident rows; None if nothing does."""
    match batches:
        case Split():
            return ResidentBatches(batches, rows)
        case UnseenIds():
            return ResidentBatches(batches.split, rows, batches)
        case MayReside():
            return cast(ResidentBatches, batches.on_device(rows))
    return None


AnyBatches = Batches | ResidentBatches
"""What makes batches, on the host or on the device."""


def choose_readers(
    batches: Batches, split: Split, wanted: Literal["auto", "resident", "host"], device: torch.device
) -> tuple[AnyBatches, AnyBatches]:
    """Returns what makes the batches for training and those of the split for evaluation.

    Args:
        batches: makes the batches for training on the host.
        split: encodes the rows.
        wanted: resident: rows on the device; host: rows of the host; auto: on the device, a GPU, if they fit there.
        device: the device of the model.

    Raises:
        InputError: if rows on the device are asked for and the batches for training cannot be made there.
    """
    if wanted == "host" or (wanted == "auto" and not fits_on(device, split.store)):
        return batches, split
    rows = ResidentRows.of(split.store, device)
    training = resident_batches(batches, rows)
    if wanted == "resident" and training is None:
        raise InputError("trainer.data=resident: only the host can make the batches of this task: set auto or host")
    return training or batches, ResidentBatches(split, rows)


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


class ResidentLoader(BatchOrder[ResidentBatches]):
    """Iterates over resident rows once, in batches: the same batches as `Loader` makes, without waiting for them.

    The order of the whole pass is computed on the device before the first batch; then the host waits no more.
    """

    @torch.no_grad()
    def __iter__(self) -> Iterator[Batch]:
        device, shuffle = self._batches.rows.device, self._shuffle
        row = self._batches.numbers(self._rows)
        if shuffle is not None:
            row = row.index_select(0, permuted(shuffle, device))
        counts = {name: self._count(row, name) for name in self._sequences}
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # batches may be made on another stream
        n_at_once = max(1, _ENCODED_AT_ONCE // max(1, self._batch_size // self._n_ranks))
        for first in range(self._first, len(self), n_at_once):
            indices = range(first, min(first + n_at_once, len(self)))
            rows = [self._rows_of(index, row) for index in indices]
            n_tokens = [{name: totals[index] for name, totals in counts.items()} for index in indices]
            batches = self._batches.batches(torch.cat(rows), [len(r) for r in rows], self._sequences, n_tokens)
            for index, batch in zip(indices, batches, strict=True):
                if n_missing := self.n_padding(index):
                    batch.is_real = batch.is_real.clone()
                    batch.is_real[len(batch) - n_missing :] = False
                yield batch

    def _rows_of(self, index: int, row: Tensor) -> Tensor:
        """Returns the [B] row numbers of this process's share of a batch, given all in the reading order."""
        share = self.positions(index)
        mine = row[share.start : share.stop]
        if self._shuffle is not None:
            mine = mine.sort().values  # as on the host, where reading rows in file order is faster
        n_missing = self.n_padding(index)
        return torch.cat([mine, row[index * self._batch_size].expand(n_missing)]) if n_missing else mine

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


_ENCODED_AT_ONCE = 1 << 18
"""Rows of the batches that are encoded together."""
_COUNTED_AT_ONCE = 1 << 20
AnyLoader = Loader | ResidentLoader
