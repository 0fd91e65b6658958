"""Vocabularies: the values of an embedding table, their counts by group, and the ids of a split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING_ID = 0
RARE_ID = 1
N_RESERVED = 2


@dataclass(frozen=True)
class Codes:
    """An array encoded as indices into its distinct values; code -1 is null."""

    codes: np.ndarray
    """[n] int32."""
    values: pa.Array
    """Canonical text of each distinct value; two values may have the same text (` 7` and `7`)."""


@dataclass(frozen=True)
class Vocabulary:
    """The values of one embedding table with codes of their own.

    These are the values with `min_count` occurrences in the training rows, and rarer ones if they are encoded from
    counts.
    """

    values: pa.Array
    """Text of the values, by descending count; value k has code k + 2."""
    counts: np.ndarray
    """[n_values, n_groups] int64."""
    n_rare: int
    """Occurrences of values without a code of their own."""
    min_count: int
    """The lowest frequency threshold of embeddings."""

    @property
    def n_codes(self) -> int:
        """Number of codes: missing, rare, and the values."""
        return len(self.values) + N_RESERVED

    def encode(self, codes: Codes) -> np.ndarray:
        """Returns the [n] int32 codes of an array's entries."""
        positions = pc.index_in(codes.values, value_set=self.values).fill_null(-1).to_numpy(zero_copy_only=False)
        lookup = np.append(np.where(positions < 0, RARE_ID, positions + N_RESERVED), MISSING_ID).astype(np.int32)
        return lookup[codes.codes]  # code -1 is the last entry: missing

    def fit_split(self, fit_groups: Sequence[int], min_count: int) -> tuple[np.ndarray, int]:
        """Assigns the ids of a split.

        Args:
            fit_groups: the groups that the split's model is fitted to.
            min_count: the frequency threshold, at least that of the vocabulary.

        Returns:
            [n_values + 2] int32 ids by code, and the number of rows of the embedding table.
        """
        counts = self.counts[:, list(fit_groups)].sum(axis=1)
        frequent = np.flatnonzero(counts >= min_count)
        frequent = frequent[np.lexsort((self._text_rank()[frequent], -counts[frequent]))]
        ids = np.full(len(counts) + N_RESERVED, RARE_ID, np.int32)
        ids[MISSING_ID] = MISSING_ID
        ids[frequent + N_RESERVED] = np.arange(len(frequent)) + N_RESERVED
        return ids, len(frequent) + N_RESERVED

    def _text_rank(self) -> np.ndarray:
        """Returns [n_values] text ranks, which break ties between equal counts; held-out counts must not break them."""
        rank = np.empty(len(self.values), np.int64)
        rank[np.asarray(pc.sort_indices(self.values))] = np.arange(len(self.values))
        return rank
