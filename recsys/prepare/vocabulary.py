"""Counts the values of vocabularies by group in one pass; the counts of a split are sums over its groups.

Ids: 0 is missing, 1 the rare bucket (values below the frequency floor, and unseen values), then the values by
descending frequency. Rows are stored as *codes*, ids in the vocabulary of all training rows. `fit_split` maps codes to
the ids of a split, whose counts exclude the held-out groups of the split.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.vocabulary import Codes, Vocabulary

_COMPACT_AT = 1_000_000
_ENCODED_MIN_COUNT = 2
"""A value that occurs once has no other row to be encoded from."""


@dataclass
class VocabularyCounter:
    """Counts the values of one vocabulary by group over a stream of batches."""

    n_groups: int
    _tables: list[pa.Table] = field(default_factory=list)
    _n_pending: int = 0

    def add(self, codes: Codes, group: np.ndarray) -> None:
        """Counts the entries of an array.

        Args:
            codes: [n] entries; nulls are not counted.
            group: [n] uint8, the group of each entry.
        """
        present = codes.codes >= 0
        cell = codes.codes[present].astype(np.int64) * self.n_groups + group[present]
        counts = np.bincount(cell, minlength=len(codes.values) * self.n_groups)
        nonzero_cells = np.flatnonzero(counts)
        table = pa.table(
            {
                "value": codes.values.take(pa.array(nonzero_cells // self.n_groups)),
                "group": pa.array((nonzero_cells % self.n_groups).astype(np.uint8)),
                "n": pa.array(counts[nonzero_cells]),
            }
        )
        self._append(table)

    def merge(self, other: "VocabularyCounter") -> None:
        """Adds the counts of another counter, over other rows."""
        for table in other._tables:
            self._append(table)

    def _append(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._n_pending += table.num_rows
        if self._n_pending > max(_COMPACT_AT, 4 * self._tables[0].num_rows):
            self._compact()

    def _compact(self) -> pa.Table:
        table = pa.concat_tables(self._tables).group_by(["value", "group"]).aggregate([("n", "sum")])
        table = table.rename_columns(["value", "group", "n"]).combine_chunks()
        self._tables, self._n_pending = [table], 0
        return table

    def finish(self, min_count: int, is_encoded: bool = False) -> Vocabulary:
        """Returns the vocabulary of the counted values; it does not depend on the order of batches.

        Args:
            min_count: the frequency threshold of embeddings.
            is_encoded: whether the values are encoded from counts: these need few rows, so that values below the
                threshold keep codes of their own, but for those that occur once.
        """
        if not self._tables:
            empty = np.zeros((0, self.n_groups), np.int64)
            return Vocabulary(pa.array([], pa.string()), empty, 0, min_count)
        table = self._compact()
        encoded = table["value"].combine_chunks().dictionary_encode()
        indices, group, n = np.asarray(encoded.indices), np.asarray(table["group"]), np.asarray(table["n"])
        total = np.bincount(indices, n, len(encoded.dictionary)).astype(np.int64)  # exact below 2^53
        text_order = np.asarray(pc.sort_indices(encoded.dictionary))
        order = text_order[np.argsort(-total[text_order], kind="stable")]
        floor = min(min_count, _ENCODED_MIN_COUNT) if is_encoded else min_count
        frequent = order[total[order] >= floor]
        # rare values, which may be most, have no counts by group
        position = np.full(len(total), -1, np.int64)
        position[frequent] = np.arange(len(frequent))
        is_kept = position[indices] >= 0
        by_group = np.zeros((len(frequent), self.n_groups), np.int64)
        by_group[position[indices[is_kept]], group[is_kept]] = n[is_kept]
        values = encoded.dictionary.take(pa.array(frequent))
        return Vocabulary(values, by_group, int(total[total < floor].sum()), min_count)
