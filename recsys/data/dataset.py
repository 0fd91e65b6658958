"""The prepared data set: the memory-mapped rows of a folder with their vocabularies, statistics and splits."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import validate
from recsys.data import layout
from recsys.data.encoder import ExtraStats, FeatureEncoder
from recsys.data.encodings.fitted import FittedEncodings
from recsys.data.encodings.table import ValueCounts
from recsys.data.encodings.tokens import encoded_sequences
from recsys.data.groups import FOLD, FORWARD, FULL, TUNING, Group, Partition, evaluation_groups_of, fit_groups_of
from recsys.data.rows import GroupRows, Rows
from recsys.data.split import MonitoredFold, Prior, Split
from recsys.data.store import ExtraColumn, RowStore, load_array
from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError, RenamedWarning
from recsys.schema.feature_selection import ALL_FEATURES, FeatureConfig
from recsys.schema.segments import LengthSegment
from recsys.system.files import is_done, read_json
from recsys.system.seal import verify


@dataclass(frozen=True, eq=False)
class PreparedDataset:
    """A folder written by `prepare`."""

    folder: Path
    manifest: layout.Manifest
    groups: tuple[Group, ...]
    stats: layout.Stats
    store: RowStore

    @classmethod
    def open(cls, folder: Path) -> "PreparedDataset":
        """Opens a prepared data set.

        Raises:
            InputError: if the folder is not a complete prepared data set of this version.
        """
        if not is_done(folder):
            raise InputError(f"{folder} has no DONE file: run python -m pipelines.prepare first")
        values = read_json(folder / layout.SCHEMA_FILE)
        if not isinstance(values, dict) or values.get("format_version") not in layout.READABLE_VERSIONS:
            raise InputError(f"{folder} was prepared by another version: run python -m pipelines.prepare again")
        verify(folder)
        if values["format_version"] < layout.FORMAT_VERSION:
            values = with_online_histories(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedWarning)  # folders of earlier versions have old key names
            manifest = validate(layout.Manifest, values, str(folder / layout.SCHEMA_FILE))
        groups_file, stats_file = folder / layout.GROUPS_FILE, folder / layout.STATS_FILE
        return cls(
            folder=folder,
            manifest=manifest,
            groups=validate(layout.Groups, read_json(groups_file), str(groups_file)).groups,
            stats=validate(layout.Stats, read_json(stats_file), str(stats_file)),
            store=RowStore.open(folder, manifest.schema_, manifest.n_rows),
        )

    @property
    def name(self) -> str:
        """Name of the data set in run folders and tables."""
        return self.manifest.name

    @property
    def n_rows(self) -> int:
        """Number of rows of all partitions."""
        return self.manifest.n_rows

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabulary of each embedding table, with counts by group."""
        tables = read_json(self.folder / layout.VOCAB_FILE)
        counts = load_array(self.folder / layout.COUNTS_FILE)
        vocabularies, start = {}, 0
        for name, table in tables.items():
            stop = start + len(table["values"])
            values = pa.array(table["values"], pa.string())
            vocabularies[name] = Vocabulary(values, counts[start:stop], table["n_rare"], table["min_count"])
            start = stop
        return vocabularies

    @cached_property
    def value_counts(self) -> dict[str, ValueCounts]:
        """Rows and clicks by value and group of each encoded feature."""
        counted, start = {}, 0
        vocabulary_of = {sequence.name: sequence.vocabulary for sequence in encoded_sequences(self.manifest.schema_)}
        for name in self.manifest.schema_.encodings:
            stop = start + self.vocabularies[vocabulary_of.get(name, name)].n_codes
            n_rows, n_clicks = load_array(self.folder / layout.ENCODING_COUNTS_FILE)[:, start:stop]
            counted[name] = ValueCounts(n_rows, n_clicks)
            start = stop
        return counted

    @cached_property
    def _fold_indices(self) -> np.ndarray:
        return load_array(self.folder / layout.FOLD_INDICES_FILE)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the available splits among `full`, `fold_0` ..., `holdout`, `forward_1` ... and `tuning`."""
        return tuple(self.stats.numeric)

    @cached_property
    def predefined_splits(self) -> tuple[Partition, ...]:
        """The labeled partitions besides train: `valid`, `test`."""
        labeled: list[Partition] = []
        partitions: tuple[Partition, ...] = ("valid", "test")
        for partition in partitions:
            rows = self.partition_rows(partition)
            if len(rows) and self.store.labels(rows(np.zeros(1, np.int64)))[0] in (0.0, 1.0):
                labeled.append(partition)
        return tuple(labeled)

    def partition_rows(self, partition: Partition) -> GroupRows:
        """Returns the rows of a partition."""
        return self._rows_of([index for index, group in enumerate(self.groups) if group.partition == partition])

    def _rows_of(self, groups: Sequence[int]) -> GroupRows:
        return GroupRows(self._fold_indices, [group.n_rows for group in self.groups], groups)

    def split(self, name: str, features: FeatureConfig = ALL_FEATURES) -> Split:
        """Builds a split: its rows, their encoder and the class counts.

        Args:
            name: one of `split_names`.
            features: features that the model reads.

        Raises:
            InputError: if the data set lacks the split or one of the features, or the fitting rows have only one class.
        """
        if name not in self.split_names:
            raise InputError(
                f"{self.folder} has no split {name!r}: it has {', '.join(self.split_names)}{self.why_missing(name)}"
            )
        fit_groups = fit_groups_of(self.groups, name)
        prior = self._prior(fit_groups)
        has_one_class = 0 in (prior.n_positive, prior.n_negative) or 0 in (prior.positive_weight, prior.negative_weight)
        if self.manifest.schema_.label is not None and has_one_class:
            weighted = " with weights above zero" if prior.mean_weight is not None else ""
            raise InputError(
                f"split {name!r} of {self.folder} has fitting rows of only one class{weighted}: add rows of the other "
                "class"
            )
        fit_rows, evaluation_rows = self._rows_of(fit_groups), self._evaluation_rows(name)
        extra = self._fit_extra(name, [fit_rows, *evaluation_rows.values()]) if self.store.extra else None
        encodings = None
        if encoded := features.encoded(self.manifest.schema_):
            encodings = FittedEncodings.fit(self.store, self.value_counts, self.groups, fit_groups, fit_rows, encoded)
        stored, stats = self.manifest.schema_, self.stats.of_split(name)
        encoder = FeatureEncoder(stored, features, stats, self.vocabularies, fit_groups, encodings, extra)
        monitored = self._monitored_fold(name, fit_groups) if name.startswith(FOLD) else None
        return Split(
            name, self.store, encoder, fit_rows, evaluation_rows, prior, monitored, self.manifest.has_folds_by_user
        )

    def why_missing(self, name: str) -> str:
        """Returns why the data set lacks a split, to append to a message; empty if no data set has such a split."""
        config = self.manifest.prepare
        if name.startswith(FORWARD) and not any(n.startswith(FORWARD) for n in self.split_names):
            return " (forward windows need schema.day or a split by time, and data prepared by this version)"
        if name == TUNING:
            return " (a tuning part needs prepare.folds.tuning_share above 0)"
        if any(n.startswith(FOLD) for n in self.split_names) or not name.startswith(FOLD):
            return ""
        unit = "users" if self.manifest.has_folds_by_user else "distinct ones, of both classes"
        return f" (its training rows have fewer than {config.n_folds} {unit})"

    def _monitored_fold(self, name: str, fit_groups: Sequence[int]) -> MonitoredFold:
        number = (int(name.removeprefix(FOLD)) + 1) % self.manifest.prepare.n_folds
        inside = [index for index in fit_groups if self.groups[index].fold == number]
        outside = [index for index in fit_groups if self.groups[index].fold != number]
        return MonitoredFold(number, self._rows_of(inside), self._rows_of(outside))

    def _prior(self, fit_groups: Sequence[int]) -> Prior:
        groups = [self.groups[index] for index in fit_groups]
        n_rows, n_positive = sum(group.n_rows for group in groups), sum(group.n_positive for group in groups)
        prior = Prior(n_positive, n_rows - n_positive, sampling_rate=self.stats.sampling_rate or 1.0)
        if self.manifest.schema_.weight is None:
            return prior
        return replace(
            prior,
            positive_weight=sum(group.positive_weight or 0.0 for group in groups),
            negative_weight=sum(group.negative_weight or 0.0 for group in groups),
        )

    def _evaluation_rows(self, name: str) -> dict[str, Rows]:
        if name == FULL:
            return {partition: self.partition_rows(partition) for partition in self.predefined_splits}
        return {name.removeprefix(FOLD): self._rows_of(evaluation_groups_of(self.groups, name))}

    def _fit_extra(self, split: str, row_sets: Sequence[Rows]) -> ExtraStats:
        """Computes mean and standard deviation of the extra column over the first set; all sets must have values."""
        column = self.store.extra
        assert column is not None
        for rows in row_sets:
            row_numbers = rows.numbers()
            is_missing = np.isnan(column.values[row_numbers])
            if n_missing := int(is_missing.sum()):
                first_id = self.store.row_ids(row_numbers[is_missing][:1])[0]
                raise InputError(
                    f"{column.origin} has no value for {n_missing:,} rows of split {split!r}, such as {first_id}: use "
                    "the same data and split for the retrieval run and this run"
                )
        fit_values = column.values[row_sets[0].numbers()].astype(np.float64)
        return ExtraStats(column.name, float(fit_values.mean()), float(fit_values.std()) or 1.0)

    def fit_rows_by_part(self, split: str, part: int, n_parts: int) -> tuple[Rows, Rows]:
        """Divides a split's fitting rows into parts by fold; returns the rows of one part and of all other parts."""
        fit_groups = fit_groups_of(self.groups, split)
        folds = sorted({self.groups[index].fold for index in fit_groups})
        inside = [index for index in fit_groups if folds.index(self.groups[index].fold) % n_parts == part]
        outside = [index for index in fit_groups if index not in inside]
        return self._rows_of(inside), self._rows_of(outside)

    def with_column(self, column: ExtraColumn) -> "PreparedDataset":
        """Returns the data set with one more dense column.

        Raises:
            InputError: if the data already has a column of that name.
        """
        if column.name in self.manifest.schema_.numeric:
            raise InputError(f"{self.folder} already has a column {column.name!r}: rename it in the data")
        return replace(self, store=replace(self.store, extra=column))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the folder instead of receiving the mapped rows."""
        return _reopened, (self.folder, self.store.extra)

    @cached_property
    def generator(self) -> dict[str, Any] | None:
        """Configuration of the generator that made the rows; None for other data."""
        path = self.folder / layout.GENERATOR_FILE
        return read_json(path) if path.is_file() else None

    def truth(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns [n] float64 true click probabilities; None without the generator's truth file."""
        path = self.folder / layout.TRUTH_FILE
        return load_array(path)[rows] if path.is_file() else None

    def segments(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """Returns the [n] segment labels of rows for every segmentation of the schema; null for a row without one."""
        schema, labels_of = self.manifest.schema_, {}
        for name, segment in schema.segments.items():
            if isinstance(segment, LengthSegment):
                lengths = self.store.sequence_lengths(segment.sequence, rows)
                labels, index = pa.array(segment.labels), np.searchsorted(segment.edges, lengths, "right")
            else:
                index = self.store.read_sparse(rows)[:, schema.categorical.index(segment.column)]
                labels = pa.concat_arrays([pa.array(["missing", "rare"]), self.vocabularies[segment.column].values])
            labels_of[name] = labels.take(pa.array(index))
        return labels_of


def _reopened(folder: Path, extra: ExtraColumn | None) -> PreparedDataset:
    dataset = PreparedDataset.open(folder)
    return dataset if extra is None else dataset.with_column(extra)


def with_online_histories(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns the manifest of format 3, whose histories from the log had steps of the same day or split."""
    manifest = deepcopy(manifest)
    sequences = [*manifest["schema"].get("logs", {}).values(), *manifest["schema_config"].get("sequences", {}).values()]
    for sequence in sequences:
        if sequence.get("kind") == "log":
            sequence["history_until"] = "row"
    return manifest
