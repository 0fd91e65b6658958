"""Encodes rows for a split: codes to embedding ids and raw numbers to model inputs, as fitted to its fitting rows.

Shapes: B rows of a batch, N dense columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.encodings.fitted import FittedEncodings
from recsys.data.layout import SplitStats
from recsys.data.store import RowStore
from recsys.data.transforms import NumericTransformer
from recsys.data.vocabulary import Vocabulary
from recsys.schema.feature_selection import FeatureConfig
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class ExtraStats:
    """Mean and standard deviation of an `ExtraColumn` over a split's fitting rows."""

    name: str
    mean: float
    std: float


class FeatureEncoder:
    """Encodes rows of any store that uses the data set's vocabularies.

    Args:
        stored: schema of the store.
        features: features to read and their frequency thresholds.
        stats: statistics of the numeric columns over the fitting rows.
        vocabularies: vocabularies of the data set.
        fit_groups: groups of rows whose counts the frequency thresholds apply to.
        encodings: encodings from counts, fitted to the same groups; None for none.
        extra: statistics of the store's extra column, if any.
    """

    schema: Schema
    """Schema of the encoded features, with the sizes of the embedding tables and the names of the dense columns."""

    def __init__(
        self,
        stored: Schema,
        features: FeatureConfig,
        stats: SplitStats,
        vocabularies: Mapping[str, Vocabulary],
        fit_groups: Sequence[int],
        encodings: FittedEncodings | None = None,
        extra: ExtraStats | None = None,
    ) -> None:
        schema = features.select(stored)
        self.stats = tuple(stats.numeric[column] for column in schema.measured)
        """Statistics of the measured columns."""
        self.transformer = NumericTransformer(self.stats)
        self.measured_columns = np.array([stored.measured.index(column) for column in schema.measured], np.int64)
        """The measured columns, as columns of the store."""
        self.reads_all_measured = schema.measured == stored.measured
        left_out = set(stored.numeric) - set(schema.numeric)
        indicators = [tuple(c for c in columns if c not in left_out) for columns in stats.missing_indicators]
        indicators = [columns for columns in indicators if columns]
        self.indicator_columns = [schema.measured.index(columns[0]) for columns in indicators]
        self.n_numeric, self.extra = len(schema.numeric), extra
        self.encodings = encodings or FittedEncodings()
        self.encoded_columns = {name: stored.categorical.index(name) for name, _ in self.encodings.by_code}
        """The encoded categorical features, as columns of the store."""
        tables = {
            name: vocabulary.fit_split(fit_groups, features.floor(name, vocabulary.min_count, vocabularies))
            for name, vocabulary in vocabularies.items()
            if name in schema.vocabularies
        }
        starts = np.cumsum([0, *(len(ids) for ids, _ in tables.values())])[:-1]
        start_of = dict(zip(tables, starts.tolist(), strict=True))
        self.ids = np.concatenate([ids for ids, _ in tables.values()]) if tables else np.zeros(0, np.int32)
        self.sparse_columns = np.array([stored.categorical.index(column) for column in schema.categorical], np.int64)
        self.sparse_start = np.array([start_of[column] for column in schema.categorical], np.int64)
        self.token_start = {sequence.name: start_of[sequence.vocabulary] for sequence in schema.token_sequences}
        indicator_names = [_indicator_name(columns) for columns in indicators]
        self.schema = schema.model_copy(
            update={
                "num_embeddings": {name: n for name, (_, n) in tables.items()},
                "dense": (*schema.numeric, *indicator_names, *self.encodings.names, *([extra.name] if extra else [])),
                "missing_indicators": tuple(indicators),
            }
        )

    def batch(self, store: RowStore, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Encodes rows as a batch.

        Args:
            store: the store of the rows.
            rows: [B] row numbers.
            sequences: sequence features to read; others are skipped.
        """
        dense, values = self._dense(store, rows)
        return Batch(
            dense=torch.from_numpy(dense),
            sparse=self._sparse(store, rows),
            sequences=self._sequences(store, rows, sequences, values),
            label=torch.from_numpy(store.labels(rows)),
            row=torch.from_numpy(rows),
            is_real=torch.ones(len(rows), dtype=torch.bool),
            n_rows=len(rows),
        )

    def table(self, store: RowStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encodes rows as plain columns, for models that are not neural networks.

        Returns:
            [B, n_categorical] int32 ids, and [B, n_measured + ...] float32: transformed numbers (NaN for null), then
            missing indicators, encodings from counts, and any extra column.
        """
        dense, values = self._dense(store, rows)
        return self._sparse_ids(store, rows), np.concatenate([values, dense[:, self.n_numeric :]], axis=1)

    def _dense(self, store: RowStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns [B, N] model inputs and [B, n_measured] transformed values, NaN for null."""
        extra = self._encodings(store, rows)
        if self.extra is not None:
            assert store.extra is not None
            standardized = (store.extra.values[rows] - self.extra.mean) / self.extra.std
            extra.append(standardized.astype(np.float32)[:, None])
        if not self.schema.measured:
            empty = np.zeros((len(rows), 0), np.float32)
            return np.concatenate([empty, *extra], axis=1), empty
        values = store.read_measured(rows)
        if not self.reads_all_measured:
            values = values[:, self.measured_columns]
        values = self.transformer(values)
        indicators = np.isnan(values[:, self.indicator_columns]).astype(np.float32)
        numeric = np.nan_to_num(values[:, : self.n_numeric], nan=0.0)
        return np.concatenate([numeric, indicators, *extra], axis=1), values

    def _encodings(self, store: RowStore, rows: np.ndarray) -> list[np.ndarray]:
        """Returns [B, E] encodings of each encoded feature."""
        encodings = self.encodings
        if not encodings.names:
            return []
        values: list[np.ndarray] = []
        if encodings.by_code:
            codes, groups = store.read_encoded_codes(rows), store.groups(rows)
            columns = {name: codes[:, column] for name, column in self.encoded_columns.items()}
            values += [table(columns[name], groups) for name, table in encodings.by_fold.items()]
            past = store.past_counts(rows) if encodings.by_past else None
            values += [encoding(columns[name], groups, past) for name, encoding in encodings.by_past.items()]
        return values + [encoding.of_rows(store, name, rows) for name, encoding in encodings.by_token.items()]

    def _sparse(self, store: RowStore, rows: np.ndarray) -> KeyedJaggedTensor:
        keys = list(self.schema.categorical)
        if not keys:
            return KeyedJaggedTensor.empty(values_dtype=torch.int32, lengths_dtype=torch.int32)
        ids = self._sparse_ids(store, rows)
        return KeyedJaggedTensor(
            keys=keys,
            values=torch.from_numpy(np.ascontiguousarray(ids.T).reshape(-1)),
            lengths=torch.ones(len(keys) * len(rows), dtype=torch.int32),
            stride=len(rows),
            length_per_key=[len(rows)] * len(keys),
        )

    def _sparse_ids(self, store: RowStore, rows: np.ndarray) -> np.ndarray:
        """Returns [B, n_categorical] int32 ids."""
        if not self.schema.categorical:
            return np.zeros((len(rows), 0), np.int32)
        return self.ids[store.read_sparse(rows)[:, self.sparse_columns] + self.sparse_start]

    def _sequences(
        self, store: RowStore, rows: np.ndarray, names: Sequence[str], measured: np.ndarray
    ) -> KeyedJaggedTensor:
        """Returns the ids of token sequences, and the steps of groups of columns with their values as weights."""
        if not names:
            return KeyedJaggedTensor.empty(values_dtype=torch.int32, lengths_dtype=torch.int32)
        column_sequences = {feature.name: feature for feature in self.schema.column_sequences if feature.name in names}
        ids, lengths, weights = [], [], []
        for name in names:
            if name in column_sequences:
                columns = [self.schema.measured.index(column) for column in column_sequences[name].columns]
                is_present = ~np.isnan(measured[:, columns])
                ids.append(np.nonzero(is_present)[1].astype(np.int32))
                lengths.append(is_present.sum(axis=1, dtype=np.int32))
                weights.append(measured[:, columns][is_present])
            else:
                codes, n_tokens = store.read_tokens(name, rows)
                ids.append(self.ids[codes + self.token_start[name]])
                lengths.append(n_tokens)
                weights.append(np.ones(len(codes), np.float32))
        return KeyedJaggedTensor(
            keys=list(names),
            values=torch.from_numpy(np.concatenate(ids)),
            lengths=torch.from_numpy(np.concatenate(lengths)),
            weights=torch.from_numpy(np.concatenate(weights)) if column_sequences else None,
            stride=len(rows),
            length_per_key=[len(value) for value in ids],
        )


def _indicator_name(columns: Sequence[str]) -> str:
    """Returns the display name of the missing indicator of columns that are null together."""
    suffix = f"+{len(columns) - 1}" if len(columns) > 1 else ""
    return f"isnull({columns[0]}{suffix})"
