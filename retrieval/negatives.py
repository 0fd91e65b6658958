"""Batches with negatives: rows, followed by items sampled from the catalog."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from recsys.data.batch import Batch
from recsys.data.resident.encoder import ResidentBatches
from recsys.data.resident.rows import ResidentRows
from recsys.data.split import Split
from retrieval.catalog import Catalog, item_batch


class WithNegatives:
    """Makes batches of a split's rows, followed by items as negatives.

    The items depend only on the seed and the rows, so a resumed fit samples the same items.

    Args:
        split: encodes rows.
        catalog: the items.
        item_sequences: the sequence features of items.
        n_uniform: items sampled uniformly, with replacement.
        n_popular: items sampled in proportion to their positives, with replacement.
        is_whole: whether to append the full catalog instead of samples.
        seed: seed of the samples.
    """

    def __init__(
        self,
        split: Split,
        catalog: Catalog,
        item_sequences: Sequence[str],
        n_uniform: int,
        n_popular: int,
        is_whole: bool,
        seed: int,
    ) -> None:
        self.split, self._catalog, self._item_sequences = split, catalog, item_sequences
        self._n_uniform, self._n_popular, self.is_whole, self._seed = n_uniform, n_popular, is_whole, seed
        self._whole: Batch | None = None

    @property
    def samples_items(self) -> bool:
        """Whether the items depend on the rows."""
        return not self.is_whole and self._n_uniform + self._n_popular > 0

    @cached_property
    def _cumulative_shares(self) -> np.ndarray:
        """[I] cumulative shares of the positives."""
        sums = np.cumsum(self._catalog.n_positives, dtype=np.float64)
        return sums / sums[-1]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns a batch of the rows, then the items."""
        batch = self.split.batch(rows, sequences)
        items = self.items(len(rows), rows[0], rows[-1], sequences)
        return batch if items is None else batch.append_items(items)

    def items(self, n_rows: int, first: int, last: int, sequences: Sequence[str]) -> Batch | None:
        """Returns the items that follow a batch of `n_rows` rows from row number `first` to `last`; None for none."""
        if self.is_whole:
            if self._whole is None:
                self._whole = item_batch(self.split, self._catalog.rows, sequences, self._item_sequences).counted()
            return self._whole
        if not self.samples_items:
            return None
        rng = np.random.default_rng([self._seed, n_rows, first, last])
        sampled = [rng.integers(0, len(self._catalog), self._n_uniform)]
        sampled.append(np.searchsorted(self._cumulative_shares, rng.random(self._n_popular), side="right"))
        item_rows = self._catalog.rows[np.concatenate(sampled)]
        return item_batch(self.split, item_rows, sequences, self._item_sequences).counted()

    def on_device(self, rows: ResidentRows) -> ResidentBatches:
        """Makes the same batches of rows that are on a device."""
        return _ResidentWithNegatives(self, rows)


class _ResidentWithNegatives(ResidentBatches):
    """`WithNegatives` for rows on a device. Items are few: the host samples and encodes them."""

    def __init__(self, host: WithNegatives, rows: ResidentRows) -> None:
        super().__init__(host.split, rows)
        self._host = host
        self._whole: Batch | None = None

    def batches(
        self, row: Tensor, sizes: Sequence[int], sequences: Sequence[str], n_tokens: Sequence[Mapping[str, int]]
    ) -> Iterator[Batch]:
        """See `ResidentBatches`."""
        of_rows = super().batches(row, sizes, sequences, n_tokens)
        if not self._host.samples_items:
            yield from (self._with_items(batch, 0, 0, sequences) for batch in of_rows)
            return
        ends = np.cumsum(sizes)
        bounds = torch.from_numpy(np.stack([ends - sizes, ends - 1])).to(row.device)
        firsts, lasts = row[bounds].tolist()  # waits for this stream alone, once for several batches
        for batch, first, last in zip(of_rows, firsts, lasts, strict=True):
            yield self._with_items(batch, first, last, sequences)

    def _with_items(self, batch: Batch, first: int, last: int, sequences: Sequence[str]) -> Batch:
        items = self._items(len(batch), first, last, sequences)
        return batch if items is None else batch.append_items(items)

    def _items(self, n_rows: int, first: int, last: int, sequences: Sequence[str]) -> Batch | None:
        if self._whole is not None:
            return self._whole
        items = self._host.items(n_rows, first, last, sequences)
        if items is None:
            return None
        items = items.to(self.rows.device)
        if self._host.is_whole:
            self._whole = items
        return items
