"""All encodings from counts of one split, fitted to its fitting rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.data.encodings.past import PastEncoding
from recsys.data.encodings.table import EncodingTable, ValueCounts
from recsys.data.groups import Group
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.schema.encodings import kinds_of_folds, kinds_of_past

_N_STANDARDIZED = 1_000_000
"""Fitting rows that the mean and deviation of encodings by earlier rows are computed over."""


@dataclass(frozen=True)
class FittedEncodings:
    """The encodings by categorical feature of the store."""

    by_fold: dict[str, EncodingTable] = field(default_factory=dict)
    by_past: dict[str, PastEncoding] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        store: RowStore,
        counts: Mapping[str, ValueCounts],
        groups: Sequence[Group],
        fit_groups: Sequence[int],
        fit_rows: Rows,
    ) -> "FittedEncodings":
        """Fits the encodings of a store's schema.

        Args:
            store: all rows.
            counts: rows and clicks of the values of each encoded feature.
            groups: all groups of the data set.
            fit_groups: positions of the groups that the split's model is fitted to.
            fit_rows: the rows of these groups.
        """
        schema = store.schema
        by_fold = {
            name: EncodingTable.fit(counts[name], groups, fit_groups, kinds_of_folds(kinds))
            for name, kinds in schema.encodings.items()
            if kinds_of_folds(kinds)
        }
        if schema.encodings_past is None or not schema.past_encoded:
            return cls(by_fold)
        n = min(_N_STANDARDIZED, len(fit_rows))
        past = store.past_counts(fit_rows(np.linspace(0, len(fit_rows) - 1, n).astype(np.int64)))
        assert past is not None
        has_past = np.full(len(groups), schema.encodings_past.history_until == "row")
        has_past[list(fit_groups)] = True
        by_past = {
            name: PastEncoding.fit(
                counts[name], fit_groups, kinds_of_past(schema.encodings[name]), 2 * index, past, has_past
            )
            for index, name in enumerate(schema.past_encoded)
        }
        return cls(by_fold, by_past)

    @property
    def by_column(self) -> list[tuple[str, EncodingTable | PastEncoding]]:
        """All encodings with their features, in the order of the dense columns."""
        return [*self.by_fold.items(), *self.by_past.items()]

    @property
    def names(self) -> list[str]:
        """The names of the dense columns, such as `ctr(ad)`."""
        return [f"{kind}({feature})" for feature, encoding in self.by_column for kind in encoding.kinds]
