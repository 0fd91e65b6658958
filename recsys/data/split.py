"""The splits of a prepared data set: which rows a model may see, and how those rows alone have all rows encoded."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.groups import fit_groups_of
from recsys.data.rows import Rows
from recsys.data.store import ExtraColumn
from recsys.data.transforms import NumericStats, NumericTransformer
from recsys.errors import InputError
from recsys.schema.feature_selection import ALL_FEATURES, FeatureConfig
from recsys.schema.resolved import Schema

if TYPE_CHECKING:
    from recsys.data.dataset import PreparedDataset


@dataclass(frozen=True)
class Prior:
    """The classes of a split's fitting rows."""

    n_positive: int
    n_negative: int

    @property
    def pos_weight(self) -> float:
        """w = N_neg / N_pos."""
        return self.n_negative / self.n_positive


@dataclass(frozen=True)
class _Standardized:
    """A column less its mean over a split's fitting rows, over its standard deviation there."""

    values: np.ndarray
    mean: float
    scale: float

    @classmethod
    def fit(cls, split: "Split", column: ExtraColumn) -> "_Standardized":
        """Learns from the fitting rows; every row of the split needs a value."""
        parts = []
        for rows in (split.fit_rows, split.held_out_rows, *map(split.dataset.given_rows, split.given_splits)):
            numbers = rows(np.arange(len(rows)))
            values = column.values[numbers]
            if missing := int(np.isnan(values).sum()):
                first = split.dataset.row_ids(numbers[np.isnan(values)][:1])[0]
                raise InputError(
                    f"{column.origin} lacks {missing:,} rows of split {split.name!r}, such as {first}: let the "
                    "retrieval run and this one have the same data and split"
                )
            parts.append(values)
        fitted = parts[0].astype(np.float64)
        return cls(column.values, float(fitted.mean()), float(fitted.std()) or 1.0)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[n, 1] float32."""
        return ((self.values[rows] - self.mean) / self.scale).astype(np.float32)[:, None]


class Split:
    """One way to fit and judge: the rows a model may see, and the encoding that those rows alone determine.

    `fold_K` is fitted on all folds but K and judged on K, `holdout` on all days but the last and judged on it, `full`
    on all training rows and judged on the splits the data brought.
    """

    def __init__(self, dataset: "PreparedDataset", name: str, features: FeatureConfig = ALL_FEATURES) -> None:
        self.dataset, self.name = dataset, name
        fit_groups = fit_groups_of(dataset.groups, name)
        self.fit_rows = dataset._group_rows(fit_groups)
        held_out = [i for i, group in enumerate(dataset.groups) if group.split == "train" and i not in set(fit_groups)]
        self.held_out_rows = dataset._group_rows(held_out)
        self.prior = Prior(
            n_positive=sum(dataset.groups[i].n_positive for i in fit_groups),
            n_negative=sum(dataset.groups[i].n_rows - dataset.groups[i].n_positive for i in fit_groups),
        )
        self._fit_groups = fit_groups
        if self.prior.n_positive == 0 or self.prior.n_negative == 0:
            raise InputError(
                f"split {name!r} of {dataset.folder} has fitting rows of one class only: give it more rows"
            )

        whole = dataset.manifest.schema_
        schema = features.select(whole)
        stats = dataset._stats["numeric"][name]
        self._transformer = NumericTransformer([NumericStats(**stats[column]) for column in schema.measured])
        indicators = [tuple(columns) for columns in dataset._stats["missing_indicators"][name]]
        self._indicator_columns = [schema.measured.index(columns[0]) for columns in indicators]
        self._n_numeric = len(schema.numeric)
        self._extra = _Standardized.fit(self, dataset._extra) if dataset._extra is not None else None

        tables = {
            name: vocabulary.fit_split(fit_groups, features.floor(name, vocabulary.min_count))
            for name, vocabulary in dataset.vocabularies.items()
            if name in schema.vocabularies
        }
        starts = np.cumsum([0, *(len(ids) for ids, _ in tables.values())])[:-1]
        start_of = dict(zip(tables, starts.tolist(), strict=True))
        self._ids = np.concatenate([ids for ids, _ in tables.values()]) if tables else np.zeros(0, np.int32)
        self._sparse_columns = np.array([whole.categorical.index(column) for column in schema.categorical], np.int64)
        self._sparse_start = np.array([start_of[column] for column in schema.categorical], np.int64)
        self._token_start = {sequence.name: start_of[sequence.vocabulary] for sequence in schema.token_sequences}
        more = [f"isnull({c[0]}{f'+{len(c) - 1}' if len(c) > 1 else ''})" for c in indicators]
        self.schema: Schema = schema.model_copy(
            update={
                "num_embeddings": {name: n for name, (_, n) in tables.items()},
                "dense": (*schema.numeric, *more, *([dataset._extra.name] if dataset._extra else [])),
            }
        )

    def fit_part(self, part: int, n_parts: int) -> tuple[Rows, Rows]:
        """The fitting rows of one part in so many, by their folds, and those of the others."""
        groups = self.dataset.groups
        folds = sorted({groups[index].fold for index in self._fit_groups})
        mine = [index for index in self._fit_groups if folds.index(groups[index].fold) % n_parts == part]
        others = [index for index in self._fit_groups if index not in mine]
        return self.dataset._group_rows(mine), self.dataset._group_rows(others)

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits of the data's own that this one is judged on."""
        return self.dataset.given_splits if self.name == "full" else ()

    def over(self, dataset: "PreparedDataset") -> "Split":
        """The same encoding of the rows of `PreparedDataset.holding`."""
        other = copy(self)
        other.dataset = dataset
        return other

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Encodes rows.

        Args:
            rows: [B] row numbers.
            sequences: the sequence features to read; others cost nothing.
        """
        dense, steps = self._dense(rows)
        return Batch(
            dense=torch.from_numpy(dense),
            sparse=self._sparse(rows),
            sequences=self._sequences(rows, sequences, steps),
            label=torch.from_numpy(self.dataset.labels(rows)),
            row_id=torch.from_numpy(rows),
        )

    def table(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features of rows as plain columns, for models that are no networks.

        Returns:
            [B, n_categorical] int32 ids, and [B, n_measured + n_indicators] float32 transformed numbers, NaN where
            null, with the missing indicators behind them.
        """
        dense, values = self._dense(rows)
        return self._sparse_ids(rows), np.concatenate([values, dense[:, self._n_numeric :]], axis=1)

    def _dense(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B, N] model inputs, and the [B, n_measured] transformed values with NaN where null."""
        extra = [] if self._extra is None else [self._extra(rows)]
        if not self.schema.measured:
            none = np.zeros((len(rows), 0), np.float32)
            return np.concatenate([none, *extra], axis=1), none
        values = self._transformer(self.dataset.read_measured(rows))
        indicators = np.isnan(values[:, self._indicator_columns]).astype(np.float32)
        numeric = np.nan_to_num(values[:, : self._n_numeric], nan=0.0)
        return np.concatenate([numeric, indicators, *extra], axis=1), values

    def _sparse(self, rows: np.ndarray) -> KeyedJaggedTensor:
        keys = list(self.schema.categorical)
        if not keys:
            return KeyedJaggedTensor.empty(values_dtype=torch.int32, lengths_dtype=torch.int32)
        ids = self._sparse_ids(rows)
        return KeyedJaggedTensor(
            keys=keys,
            values=torch.from_numpy(np.ascontiguousarray(ids.T).reshape(-1)),
            lengths=torch.ones(len(keys) * len(rows), dtype=torch.int32),
            stride=len(rows),
            length_per_key=[len(rows)] * len(keys),
        )

    def _sparse_ids(self, rows: np.ndarray) -> np.ndarray:
        """[B, n_categorical] int32."""
        if not self.schema.categorical:
            return np.zeros((len(rows), 0), np.int32)
        return self._ids[self.dataset.read_sparse(rows)[:, self._sparse_columns] + self._sparse_start]

    def _sequences(self, rows: np.ndarray, names: Sequence[str], steps: np.ndarray) -> KeyedJaggedTensor:
        if not names:
            return KeyedJaggedTensor.empty(values_dtype=torch.int32, lengths_dtype=torch.int32)
        groups = {feature.name: feature for feature in self.schema.column_sequences if feature.name in names}
        values, lengths, weights = [], [], []
        for name in names:
            if name in groups:
                columns = [self.schema.measured.index(column) for column in groups[name].columns]
                present = ~np.isnan(steps[:, columns])
                values.append(np.nonzero(present)[1].astype(np.int32))
                lengths.append(present.sum(axis=1, dtype=np.int32))
                weights.append(steps[:, columns][present])
            else:
                codes, n_tokens = self.dataset.read_tokens(name, rows)
                values.append(self._ids[codes + self._token_start[name]])
                lengths.append(n_tokens)
                weights.append(np.ones(len(codes), np.float32))
        return KeyedJaggedTensor(
            keys=list(names),
            values=torch.from_numpy(np.concatenate(values)),
            lengths=torch.from_numpy(np.concatenate(lengths)),
            weights=torch.from_numpy(np.concatenate(weights)) if groups else None,
            stride=len(rows),
            length_per_key=[len(value) for value in values],
        )
