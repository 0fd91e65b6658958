"""All encodings from counts of one split, fitted to its fitting rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.data.encodings.past import PastEncoding
from recsys.data.encodings.table import EncodingTable, ValueCounts
from recsys.data.encodings.tokens import TokenEncoding, encoded_sequences
from recsys.data.groups import Group
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.schema.encodings import TOKEN_POOLS, encoded_columns, kinds_of_folds, kinds_of_past

_N_STANDARDIZED = 1_000_000
"""Fitting rows that the mean and deviation of encodings by earlier rows and of tokens are computed over."""


@dataclass(frozen=True)
class FittedEncodings:
    """The encodings by categorical feature and token sequence of the store."""

    by_fold: dict[str, EncodingTable] = field(default_factory=dict)
    by_past: dict[str, PastEncoding] = field(default_factory=dict)
    by_token: dict[str, TokenEncoding] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        store: RowStore,
        counts: Mapping[str, ValueCounts],
        groups: Sequence[Group],
        fit_groups: Sequence[int],
        fit_rows: Rows,
        encoded: Collection[str],
    ) -> "FittedEncodings":
        """Fits the encodings of a store's schema.

        Args:
            store: all rows.
            counts: rows and clicks of the values of each encoded feature.
            groups: all groups of the data set.
            fit_groups: positions of the groups that the split's model is fitted to.
            fit_rows: the rows of these groups.
            encoded: the encoded features to fit.
        """
        schema = store.schema
        sequences = [sequence.name for sequence in encoded_sequences(schema) if sequence.name in encoded]
        by_fold = {
            name: EncodingTable.fit(counts[name], groups, fit_groups, kinds_of_folds(kinds))
            for name, kinds in schema.encodings.items()
            if name in encoded and kinds_of_folds(kinds) and name not in sequences
        }
        past_columns = {name: 2 * index for index, name in enumerate(schema.past_encoded) if name in encoded}
        if not sequences and not past_columns:
            return cls(by_fold)
        n = min(_N_STANDARDIZED, len(fit_rows))
        sample = fit_rows(np.linspace(0, len(fit_rows) - 1, n).astype(np.int64))
        by_token = {
            name: TokenEncoding.fit(
                EncodingTable.fit(counts[name], groups, fit_groups, schema.encodings[name], is_standardized=False),
                store,
                name,
                sample,
            )
            for name in sequences
        }
        past = store.past_counts(sample)
        if schema.encodings_past is None or past is None:
            return cls(by_fold, by_token=by_token)
        has_past = np.full(len(groups), schema.encodings_past.history_until == "row")
        has_past[list(fit_groups)] = True
        by_past = {
            name: PastEncoding.fit(
                counts[name], fit_groups, kinds_of_past(schema.encodings[name]), column, past, has_past
            )
            for name, column in past_columns.items()
        }
        return cls(by_fold, by_past, by_token)

    @property
    def by_code(self) -> list[tuple[str, EncodingTable | PastEncoding]]:
        """The encodings of categorical features, in the order of the dense columns; those of tokens follow."""
        return [*self.by_fold.items(), *self.by_past.items()]

    @property
    def names(self) -> list[str]:
        """The names of the dense columns, such as `ctr(ad)` and `ctr_mean(history)`."""
        of_codes = [name for feature, of in self.by_code for name in encoded_columns(feature, of.kinds)]
        of_tokens = [encoded_columns(feature, of.table.kinds, TOKEN_POOLS) for feature, of in self.by_token.items()]
        return [*of_codes, *(name for names in of_tokens for name in names)]
