"""Batches that end with items alone, drawn from the catalog, to contrast the rows' own with."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from recsys.data.batch import Batch
from recsys.data.split import Split
from retrieval.catalog import Catalog, items_alone


class WithNegatives:
    """Batches of a split's rows with further items behind them.

    Which items depends on the seed and the rows alone, so that a resumed fit meets the same ones.

    Args:
        split: encodes rows.
        catalog: the items.
        item_sequences: the sequence features of items.
        n_uniform: items drawn uniformly, with replacement.
        n_popular: items drawn as often as they are hits.
        is_whole: takes the whole catalog instead.
        seed: of the draws.
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
    def _steps(self) -> np.ndarray:
        """Of the distribution function of hits."""
        sums = np.cumsum(self._catalog.n_positives, dtype=np.float64)
        return sums / sums[-1]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """The rows, then the items."""
        batch = self._split.batch(rows, sequences)
        if self._is_whole:
            if self._whole is None:
                self._whole = items_alone(self._split, self._catalog.rows, sequences, self._item_sequences)
            return batch.followed_by(self._whole)
        if not self._n_uniform + self._n_popular:
            return batch
        rng = np.random.default_rng([self._seed, len(rows), *rows[[0, -1]]])
        drawn = [rng.integers(0, len(self._catalog), self._n_uniform)]
        drawn.append(np.searchsorted(self._steps, rng.random(self._n_popular), side="right"))
        items = self._catalog.rows[np.concatenate(drawn)]
        return batch.followed_by(items_alone(self._split, items, sequences, self._item_sequences))
