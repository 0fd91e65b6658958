"""Vocabularies: values counted by group in one pass, so that every split's own vocabulary is a sum over its groups.

Ids: 0 is missing, 1 the rare bucket (values under the frequency floor, and values never seen), then the values by
falling frequency. Rows are stored under their *code*, an id in the vocabulary of all training rows; `fit_split` gives
the map from codes to the ids of a split, whose counts leave that split's held-out groups out.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.vocabulary import Codes, Vocabulary

_COMPACT_AT = 1_000_000


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
