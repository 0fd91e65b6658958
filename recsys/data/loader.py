"""Loads batches in a seeded order; a background thread makes the next batches during training.

Shapes: B rows of a batch.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from recsys.data.batch import Batch
from recsys.data.rows import Permutation, Rows
from recsys.system.threads import in_threads, n_cores
from recsys.system.world import World

MAX_THREADS = 8
"""Threads that make batches for a GPU; for a CPU, which they would take from the model, there is one."""
N_READY = 3
"""Maximum number of batches in the queue."""


class Batches(Protocol):
    """Makes batches of rows; `Split` is one implementation."""

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns the batch of [B] row numbers; entries for items only may follow the rows."""
        ...


BatchesT = TypeVar("BatchesT")


class BatchOrder(Generic[BatchesT]):
    """Divides rows into batches, and each batch over the processes.

    Args:
        batches: makes batches of rows.
        rows: the rows to read.
        batch_size: rows per batch over all processes; the last batch may be smaller.
        sequences: the sequence features to read.
        shuffle: a seeded permutation of the rows; None keeps their order.
        first: index of the first batch.
        world: the processes that share each batch; None for a single process.
    """

    def __init__(
        self,
        batches: BatchesT,
        rows: Rows,
        batch_size: int,
        sequences: Sequence[str] = (),
        shuffle: Permutation | None = None,
        first: int = 0,
        world: World | None = None,
    ) -> None:
        self._batches, self._rows, self._batch_size = batches, rows, batch_size
        self._sequences, self._shuffle, self._first = tuple(sequences), shuffle, first
        self._rank, self._n_ranks = (world.rank, world.size) if world is not None else (0, 1)
        self._is_for_gpu = world is not None and world.device.type == "cuda"
        self.waited_s = 0.0
        """Seconds that the consumer waited for batches in the last pass."""

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def n_rows(self, index: int) -> int:
        """Returns the number of rows of a batch, summed over all processes."""
        return min(self._batch_size, len(self._rows) - index * self._batch_size)

    def positions(self, index: int) -> range:
        """Returns this process's share of a batch as positions in the reading order; may be empty in the last batch."""
        first, n = index * self._batch_size, self.n_rows(index)
        share = -(-n // self._n_ranks)
        return range(first + min(n, share * self._rank), first + min(n, share * (self._rank + 1)))

    def n_padding(self, index: int) -> int:
        """Returns the number of copies that fill this process's share of a batch up to the size of the largest share.

        TorchRec exchanges embeddings of equally many rows. The copies are of the batch's first row, and not real.
        """
        return -(-self.n_rows(index) // self._n_ranks) - len(self.positions(index))


@runtime_checkable
class MayReside(Protocol):
    """Batches that can also be made of rows on a device."""

    def on_device(self, rows: Any) -> Any:
        """Returns the `ResidentBatches` that make the same batches of `ResidentRows`."""


class Loader(BatchOrder[Batches]):
    """Iterates over rows once, in batches that threads of this process make."""

    def make(self, index: int) -> Batch:
        """Makes this process's share of a batch; the rows depend only on the batch's index."""
        share, first = self.positions(index), index * self._batch_size
        n_missing = self.n_padding(index)
        rows = self._row_numbers(np.arange(share.start, share.stop))
        if not n_missing:
            return self._batches.batch(rows, self._sequences)
        padding = self._row_numbers(np.full(n_missing, first))
        batch = self._batches.batch(np.concatenate([rows, padding]), self._sequences)
        batch.is_real[len(share) : len(share) + n_missing] = False
        return batch

    def _one_by_one(self) -> Iterator[tuple[int, Batch]]:
        for index in range(self._first, len(self)):
            yield index, self._make_ready(index)

    def _make_ready(self, index: int) -> Batch:
        batch = self.make(index)
        return batch.pin_memory() if self._is_for_gpu else batch

    def _row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """Returns the row numbers at positions in the reading order."""
        if self._shuffle is None:
            return self._rows(positions)
        rows = self._rows(self._shuffle(positions))
        rows.sort()  # the rows of a batch are random; reading them in file order is faster
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
            while thread.is_alive():  # unblocks a thread that waits for space in the queue
                try:
                    ready.get_nowait()
                except queue.Empty:
                    thread.join(timeout=0.01)

    def _fill(self, ready: "queue.Queue[Batch | Exception | None]", stopped: threading.Event) -> None:
        try:
            n_threads = max(1, min(MAX_THREADS, n_cores() // 2)) if self._is_for_gpu else 1
            made = in_threads(self._make_ready, range(self._first, len(self)), n_threads)
            for _, batch in made if n_threads > 1 else self._one_by_one():
                if stopped.is_set():
                    return
                ready.put(batch)
            ready.put(None)
        except Exception as error:  # raised again in the consumer
            ready.put(error)
