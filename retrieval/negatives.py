"""Batches that end with ads alone, drawn from the catalogue, to contrast the rows' own with."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from recsys.data.batch import Batch
from recsys.data.split import Split
from retrieval.catalogue import Catalogue, ads_alone


class WithNegatives:
    """Batches of a split's rows with further ads behind them.

    Which ads depends on the seed and the rows alone, so that a resumed fit meets the same ones.

    Args:
        split: encodes rows.
        catalogue: the ads.
        ad_sequences: the sequence features of ads.
        n_uniform: ads drawn uniformly, with replacement.
        n_popular: ads drawn as often as they are hits.
        is_whole: takes the whole catalogue instead.
        seed: of the draws.
    """

    def __init__(
        self,
        split: Split,
        catalogue: Catalogue,
        ad_sequences: Sequence[str],
        n_uniform: int,
        n_popular: int,
        is_whole: bool,
        seed: int,
    ) -> None:
        self._split, self._catalogue, self._ad_sequences = split, catalogue, ad_sequences
        self._n_uniform, self._n_popular, self._is_whole, self._seed = n_uniform, n_popular, is_whole, seed
        self._whole: Batch | None = None

    @cached_property
    def _steps(self) -> np.ndarray:
        """Of the distribution function of hits."""
        sums = np.cumsum(self._catalogue.n_targets, dtype=np.float64)
        return sums / sums[-1]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """The rows, then the ads."""
        batch = self._split.batch(rows, sequences)
        if self._is_whole:
            if self._whole is None:
                self._whole = ads_alone(self._split, self._catalogue.rows, sequences, self._ad_sequences)
            return batch.followed_by(self._whole)
        if not self._n_uniform + self._n_popular:
            return batch
        rng = np.random.default_rng([self._seed, len(rows), *rows[[0, -1]]])
        drawn = [rng.integers(0, len(self._catalogue), self._n_uniform)]
        drawn.append(np.searchsorted(self._steps, rng.random(self._n_popular), side="right"))
        ads = self._catalogue.rows[np.concatenate(drawn)]
        return batch.followed_by(ads_alone(self._split, ads, sequences, self._ad_sequences))
