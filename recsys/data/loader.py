"""Batches in a seeded order, the next ones made in a thread while the current one trains."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from recsys.data.batch import Batch
from recsys.data.rows import Permutation, Rows
from recsys.system.world import World

N_READY = 3
"""Batches held ready at most."""


class Batches(Protocol):
    """Makes batches of rows, as `Split` does."""

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """[B] row numbers to a batch, in which items alone may follow the rows."""
        ...


class Loader:
    """One pass over rows.

    Args:
        split: encodes the rows.
        rows: the rows to read.
        batch_size: rows a batch; the last may be smaller.
        sequences: the sequence features to read.
        shuffle: a seeded permutation of the rows; None reads them in order.
        first: the batch to begin with.
        world: the processes that share each batch; None for this one alone.
    """

    def __init__(
        self,
        split: Batches,
        rows: Rows,
        batch_size: int,
        sequences: Sequence[str] = (),
        shuffle: Permutation | None = None,
        first: int = 0,
        world: World | None = None,
    ) -> None:
        self._split, self._rows, self._batch_size = split, rows, batch_size
        self._sequences, self._shuffle, self._first = tuple(sequences), shuffle, first
        self._rank, self._n_ranks = (world.rank, world.size) if world is not None else (0, 1)
        self.waited_s = 0.0
        """Time the reader spent waiting for a batch, in the last pass."""

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def n_rows(self, index: int) -> int:
        """Rows of a batch on all processes."""
        return min(self._batch_size, len(self._rows) - index * self._batch_size)

    def positions(self, index: int) -> range:
        """This process's share of a batch: positions in the order of reading. Of a small last batch it may be empty."""
        first, n = index * self._batch_size, self.n_rows(index)
        share = -(-n // self._n_ranks)
        return range(first + min(n, share * self._rank), first + min(n, share * (self._rank + 1)))

    def make(self, index: int) -> Batch:
        """This process's rows of the batch of that number; they depend on nothing but the number.

        TorchRec exchanges embeddings of equally many rows: where this process has fewer than the others, copies of the
        batch's first row fill up its share, and are marked as not real.
        """
        share, first = self.positions(index), index * self._batch_size
        n_missing = -(-self.n_rows(index) // self._n_ranks) - len(share)
        rows = self._numbers(np.arange(share.start, share.stop))
        if not n_missing:
            return self._split.batch(rows, self._sequences)
        fill = self._numbers(np.full(n_missing, first))
        batch = self._split.batch(np.concatenate([rows, fill]), self._sequences)
        batch.is_real[len(share) : len(share) + n_missing] = False
        return batch

    def _numbers(self, positions: np.ndarray) -> np.ndarray:
        """Row numbers at positions in the order of reading."""
        if self._shuffle is None:
            return self._rows(positions)
        rows = self._rows(self._shuffle(positions))
        rows.sort()  # which rows meet is chance; reading them in file order is faster
        return rows

    def __iter__(self) -> Iterator[Batch]:
        self.waited_s = 0.0
        ready: queue.Queue[Batch | Exception | None] = queue.Queue(maxsize=N_READY)
        stopped = threading.Event()
        thread = threading.Thread(target=self._fill, args=(ready, stopped), daemon=True)
        thread.start()
        try:
            while True:
                start = time.perf_counter()
                item = ready.get()
                self.waited_s += time.perf_counter() - start
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()
            while thread.is_alive():  # a thread that waits for room must see the event
                try:
                    ready.get_nowait()
                except queue.Empty:
                    thread.join(timeout=0.01)

    def _fill(self, ready: "queue.Queue[Batch | Exception | None]", stopped: threading.Event) -> None:
        try:
            for index in range(self._first, len(self)):
                if stopped.is_set():
                    return
                ready.put(self.make(index))
            ready.put(None)
        except Exception as error:  # raised again where the batch was wanted
            ready.put(error)
