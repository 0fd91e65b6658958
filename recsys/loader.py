"""Batches in a seeded order, the next ones made in a thread while the current one trains."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from recsys.batch import Batch
from recsys.dataset import Split
from recsys.permutation import Permutation
from recsys.rows import Rows
from recsys.world import World

N_READY = 3
"""Batches held ready at most."""


class Loader:
    """One pass over rows.

    Args:
        split: encodes the rows.
        rows: the rows to read.
        batch_size: rows a batch; the last may be smaller.
        sequences: the sequence features to read.
        shuffle: a seeded permutation of the rows' places; None reads them in order.
        first: the batch to begin with.
        world: the processes that share each batch; None for this one alone.
    """

    def __init__(
        self,
        split: Split,
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

    def places(self, index: int) -> range:
        """This process's part of a batch: places in the order of reading. Of a small last batch it may be none."""
        start, n = index * self._batch_size, self.n_rows(index)
        return range(start + n * self._rank // self._n_ranks, start + n * (self._rank + 1) // self._n_ranks)

    def make(self, index: int) -> Batch:
        """This process's rows of the batch of that number; they depend on nothing but the number."""
        mine = self.places(index)
        places = np.arange(mine.start, mine.stop)
        if self._shuffle is not None:
            places = self._shuffle(places)
        rows = self._rows(places)
        if self._shuffle is not None:
            rows.sort()  # which rows meet is chance; reading them in file order is faster
        return self._split.batch(rows, self._sequences)

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
