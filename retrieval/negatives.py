"""Batches with negatives: rows, followed by items sampled from the catalog."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from recsys.data.batch import Batch
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
        self._split, self._catalog, self._item_sequences = split, catalog, item_sequences
        self._n_uniform, self._n_popular, self._is_whole, self._seed = n_uniform, n_popular, is_whole, seed
        self._whole: Batch | None = None

    @cached_property
    def _cumulative_shares(self) -> np.ndarray:
        """[I] cumulative shares of the positives."""
        sums = np.cumsum(self._catalog.n_positives, dtype=np.float64)
        return sums / sums[-1]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns a batch of the rows, then the items."""
        batch = self._split.batch(rows, sequences)
        if self._is_whole:
            if self._whole is None:
                self._whole = item_batch(self._split, self._catalog.rows, sequences, self._item_sequences)
            return batch.append_items(self._whole)
        if not self._n_uniform + self._n_popular:
            return batch
        rng = np.random.default_rng([self._seed, len(rows), *rows[[0, -1]]])
        sampled = [rng.integers(0, len(self._catalog), self._n_uniform)]
        sampled.append(np.searchsorted(self._cumulative_shares, rng.random(self._n_popular), side="right"))
        item_rows = self._catalog.rows[np.concatenate(sampled)]
        return batch.append_items(item_batch(self._split, item_rows, sequences, self._item_sequences))
