"""Vocabularies as data: the values of an embedding table, their counts by group, and the ids of a split."""

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
    """An array as codes into its distinct values; code -1 is null."""

    codes: np.ndarray
    """[n] int32."""
    values: pa.Array
    """Canonical text of each distinct value; two values may share a text (` 7` and `7`)."""


@dataclass(frozen=True)
class Vocabulary:
    """The values of one embedding table that reach the floor in the training rows."""

    values: pa.Array
    """Text of the values, by falling count; value k has the code k + 2."""
    counts: np.ndarray
    """[n_values, n_groups] int64."""
    n_rare: int
    """Occurrences of values under the floor."""
    min_count: int

    def encode(self, codes: Codes) -> np.ndarray:
        """[n] int32 codes of an array's entries."""
        found = pc.index_in(codes.values, value_set=self.values).fill_null(-1).to_numpy(zero_copy_only=False)
        table = np.append(np.where(found < 0, RARE_ID, found + N_RESERVED), MISSING_ID).astype(np.int32)
        return table[codes.codes]  # code -1 is the last entry: missing

    def fit_split(self, fit_groups: Sequence[int], min_count: int) -> tuple[np.ndarray, int]:
        """The ids of a split.

        Args:
            fit_groups: the groups whose rows the split's model may see.
            min_count: the frequency floor, not below that of the vocabulary.

        Returns:
            [n_values + 2] int32 ids by code, and the number of embedding rows they need.
        """
        counts = self.counts[:, list(fit_groups)].sum(axis=1)
        kept = np.flatnonzero(counts >= min_count)
        kept = kept[np.lexsort((self._text_rank()[kept], -counts[kept]))]
        ids = np.full(len(counts) + N_RESERVED, RARE_ID, np.int32)
        ids[MISSING_ID] = MISSING_ID
        ids[kept + N_RESERVED] = np.arange(len(kept)) + N_RESERVED
        return ids, len(kept) + N_RESERVED

    def _text_rank(self) -> np.ndarray:
        """Breaks ties between equal counts by the values' text, so that held-out counts cannot."""
        rank = np.empty(len(self.values), np.int64)
        rank[np.asarray(pc.sort_indices(self.values))] = np.arange(len(self.values))
        return rank
