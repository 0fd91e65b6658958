"""Vocabularies: values counted by group in one pass, so that every split's own vocabulary is a sum over its groups.

Ids: 0 is missing, 1 the rare bucket (values under the frequency floor, and values never seen), then the values by
falling frequency. Rows are stored under their *code*, an id in the vocabulary of all training rows; `fit_split` gives
the map from codes to the ids of a split, whose counts leave that split's held-out groups out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.prepare.tokens import Codes

MISSING_ID = 0
RARE_ID = 1
N_RESERVED = 2

_COMPACT_AT = 1_000_000


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


@dataclass
class VocabularyCounter:
    """Counts the values of one vocabulary by group over a stream of batches."""

    n_groups: int
    _parts: list[pa.Table] = field(default_factory=list)
    _n_pending: int = 0

    def add(self, codes: Codes, group: np.ndarray) -> None:
        """Counts the entries of an array.

        Args:
            codes: [n] entries; nulls are not counted.
            group: [n] uint8, the group of each.
        """
        present = codes.codes >= 0
        cell = codes.codes[present].astype(np.int64) * self.n_groups + group[present]
        counts = np.bincount(cell, minlength=len(codes.values) * self.n_groups)
        used = np.flatnonzero(counts)
        part = pa.table(
            {
                "value": codes.values.take(pa.array(used // self.n_groups)),
                "group": pa.array((used % self.n_groups).astype(np.uint8)),
                "n": pa.array(counts[used]),
            }
        )
        self._append(part)

    def merge(self, other: "VocabularyCounter") -> None:
        """Adds what another counter counted of other rows."""
        for part in other._parts:
            self._append(part)

    def _append(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._n_pending += part.num_rows
        if self._n_pending > max(_COMPACT_AT, 4 * self._parts[0].num_rows):
            self._compact()

    def _compact(self) -> pa.Table:
        table = pa.concat_tables(self._parts).group_by(["value", "group"]).aggregate([("n", "sum")])
        table = table.rename_columns(["value", "group", "n"]).combine_chunks()
        self._parts, self._n_pending = [table], 0
        return table

    def finish(self, min_count: int) -> Vocabulary:
        """The vocabulary of what was counted; the order of batches plays no part in it."""
        if not self._parts:
            empty = np.zeros((0, self.n_groups), np.int64)
            return Vocabulary(pa.array([], pa.string()), empty, 0, min_count)
        table = self._compact()
        encoded = table["value"].combine_chunks().dictionary_encode()
        by_group = np.zeros((len(encoded.dictionary), self.n_groups), np.int64)
        by_group[np.asarray(encoded.indices), np.asarray(table["group"])] = np.asarray(table["n"])
        total = by_group.sum(axis=1)
        text_order = np.asarray(pc.sort_indices(encoded.dictionary))
        order = text_order[np.argsort(-total[text_order], kind="stable")]
        kept = order[total[order] >= min_count]
        rare = order[total[order] < min_count]
        values = encoded.dictionary.take(pa.array(kept))
        return Vocabulary(values, by_group[kept], int(total[rare].sum()), min_count)
