"""The prepared data set: memory-mapped rows; `recsys.data.split` encodes them."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import validate
from recsys.data import layout
from recsys.data.arrow import ArrowFile, FixedColumn, ListColumn
from recsys.data.groups import NO_DAY, NO_LABEL, Group
from recsys.data.rows import GroupRows
from recsys.data.split import Split
from recsys.data.store import EncodedRows, ExtraColumn, _HeldTokens, _load_array
from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError
from recsys.schema.config import LengthSegment
from recsys.schema.feature_selection import ALL_FEATURES, FeatureConfig
from recsys.system.files import is_done, read_json
from recsys.system.seal import verify


class PreparedDataset:
    """A folder that `prepare` wrote.

    Args:
        folder: where it is.

    Raises:
        InputError: when the folder is not a whole prepared data set of this version.
    """

    def __init__(self, folder: Path) -> None:
        if not is_done(folder):
            raise InputError(f"{folder} has no DONE file: run python -m pipelines.prepare first")
        self.folder = folder
        manifest = read_json(folder / layout.SCHEMA_FILE)
        if not isinstance(manifest, dict) or manifest.get("format_version") != layout.FORMAT_VERSION:
            raise InputError(f"{folder} was prepared by another version: run python -m pipelines.prepare again")
        verify(folder)
        self.manifest = validate(layout.Manifest, manifest, str(folder / layout.SCHEMA_FILE))
        self.name, self.n_rows = self.manifest.name, self.manifest.n_rows
        groups_file = folder / layout.GROUPS_FILE
        self.groups: tuple[Group, ...] = validate(layout.Groups, read_json(groups_file), str(groups_file)).groups
        self._extra: ExtraColumn | None = None
        self._stats = read_json(folder / layout.STATS_FILE)
        self._fold_indices = _load_array(folder / layout.FOLD_INDICES_FILE)
        rows = ArrowFile(folder / layout.ROWS_FILE)
        self._columns: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            name: FixedColumn(rows, name) for name in rows.schema.names
        }
        self._tokens: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
            sequence.name: ListColumn(ArrowFile(folder / layout.tokens_file(sequence.name)))
            for sequence in self.manifest.schema_.token_sequences
        }

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabulary of each embedding table, with its counts by group."""
        described = read_json(self.folder / layout.VOCAB_FILE)
        counts = _load_array(self.folder / layout.COUNTS_FILE)
        vocabularies, start = {}, 0
        for name, one in described.items():
            stop = start + len(one["values"])
            values = pa.array(one["values"], pa.string())
            vocabularies[name] = Vocabulary(values, counts[start:stop], one["n_rare"], one["min_count"])
            start = stop
        return vocabularies

    @property
    def split_names(self) -> tuple[str, ...]:
        """`full`, `fold_0` ... and `holdout`, those that this data set has."""
        return tuple(self._stats["numeric"])

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits besides train that the data brought with labels: `valid`, `test`."""
        found = []
        for name in ("valid", "test"):
            groups = [index for index, group in enumerate(self.groups) if group.split == name]
            first = self._group_rows(groups)
            if len(first) and self.labels(first(np.zeros(1, np.int64)))[0] in (0.0, 1.0):
                found.append(name)
        return tuple(found)

    def split(self, name: str, features: FeatureConfig = ALL_FEATURES) -> Split:
        """What a model that is fitted on one split needs.

        Args:
            name: one of `split_names`.
            features: what the model reads.

        Raises:
            InputError: when the data set has no such split, or not these features.
        """
        if name not in self.split_names:
            raise InputError(f"{self.folder} has no split {name!r}: it has {', '.join(self.split_names)}")
        return Split(self, name, features)

    def given_rows(self, name: str) -> GroupRows:
        """The rows of one of `given_splits`."""
        return self._group_rows([index for index, group in enumerate(self.groups) if group.split == name])

    def _group_rows(self, groups: Sequence[int]) -> GroupRows:
        return GroupRows(self._fold_indices, [group.n_rows for group in self.groups], groups)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """[n] float32: 0, 1, or NaN."""
        values = self._columns[layout.LABEL](rows)
        return np.where(values == NO_LABEL, np.nan, values).astype(np.float32)

    def row_ids(self, rows: np.ndarray) -> pa.Array:
        """[n] the rows' own ids as text, or their numbers in the data set where no file has ids."""
        path = self.folder / layout.IDS_FILE
        if not path.is_file():
            return pa.array(rows)
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()[layout.ROW_ID].take(pa.array(rows)).combine_chunks()

    @cached_property
    def item_names(self) -> pa.Array:
        """The text of each target item; empty where the schema names no target."""
        path = self.folder / layout.ITEMS_FILE
        if not path.is_file():
            return pa.array([], pa.string())
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()[layout.ITEM].combine_chunks()

    def items(self, rows: np.ndarray) -> np.ndarray:
        """[n] int32 target items of rows, as numbers in `item_names`; -1 where null."""
        return self._columns[layout.ITEM](rows)

    def days(self, rows: np.ndarray) -> np.ndarray:
        """[n] int16 days of rows, counted from 0; all -1 where the schema names no day, or the rows have none."""
        if layout.DAY not in self._columns:
            return np.full(len(rows), NO_DAY, np.int16)
        return self._columns[layout.DAY](rows)

    @cached_property
    def generator(self) -> dict[str, Any] | None:
        """The config that the rows were generated from, where they were."""
        path = self.folder / layout.GENERATOR_FILE
        return read_json(path) if path.is_file() else None

    def truth(self, rows: np.ndarray) -> np.ndarray | None:
        """[n] float64 true click probabilities, where the generator's truth was at hand."""
        path = self.folder / layout.TRUTH_FILE
        return _load_array(path)[rows] if path.is_file() else None

    def segments(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """The label of each of [n] rows in every segmentation of the schema; null where it has none."""
        schema, found = self.manifest.schema_, {}
        for name, segment in schema.segments.items():
            if isinstance(segment, LengthSegment):
                lengths = self.sequence_lengths(segment.sequence, rows)
                found[name] = pa.array(segment.labels).take(pa.array(np.searchsorted(segment.edges, lengths, "right")))
            else:
                codes = self._columns[layout.SPARSE](rows)[:, schema.categorical.index(segment.column)]
                labels = pa.concat_arrays([pa.array(["missing", "rare"]), self.vocabularies[segment.column].values])
                found[name] = labels.take(pa.array(codes))
        return found

    def with_column(self, column: ExtraColumn) -> "PreparedDataset":
        """The same rows with one more dense column."""
        if column.name in self.manifest.schema_.numeric:
            raise InputError(f"{self.folder} has a column {column.name!r} already: rename it in the data")
        other = copy(self)
        other._extra = column
        return other

    def holding(self, rows: EncodedRows) -> "PreparedDataset":
        """The same vocabularies and statistics over [n] other rows, numbered from 0, without labels or ids."""
        other = copy(self)
        n = len(rows.sparse)
        label = np.full(n, NO_LABEL, np.uint8)
        held = {layout.LABEL: label, layout.SPARSE: rows.sparse, layout.DENSE: rows.measured}
        other._columns = {name: values.__getitem__ for name, values in held.items()}
        other._tokens = {name: _HeldTokens(*tokens) for name, tokens in rows.tokens.items()}
        other.n_rows = n
        return other

    def encoded(self, rows: np.ndarray) -> EncodedRows:
        """[n] rows, as `holding` takes them."""
        schema, none = self.manifest.schema_, np.zeros((len(rows), 0))
        tokens = {sequence.name: self.read_tokens(sequence.name, rows) for sequence in schema.token_sequences}
        lengths = self._columns[layout.SEQUENCE_LENGTH](rows) if tokens else none.astype(np.int32)
        return EncodedRows(
            sparse=self.read_sparse(rows) if schema.categorical else none.astype(np.int32),
            measured=self.read_measured(rows) if schema.measured else none.astype(np.float32),
            sequence_lengths=lengths,
            tokens={name: (np.concatenate([[0], np.cumsum(n)]), codes) for name, (codes, n) in tokens.items()},
        )

    def read_sparse(self, rows: np.ndarray) -> np.ndarray:
        """[n, n_categorical] int32 codes."""
        return self._columns[layout.SPARSE](rows)

    def read_measured(self, rows: np.ndarray) -> np.ndarray:
        """[n, n_measured] float32 raw numbers, NaN where null."""
        return self._columns[layout.DENSE](rows)

    def sequence_lengths(self, sequence: str, rows: np.ndarray) -> np.ndarray:
        """[n] int32 lengths of a token sequence before any cut."""
        index = [feature.name for feature in self.manifest.schema_.token_sequences].index(sequence)
        return self._columns[layout.SEQUENCE_LENGTH](rows)[:, index]

    def read_tokens(self, sequence: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The codes of a token sequence end to end, and the [n] lengths."""
        return self._tokens[sequence](rows)
