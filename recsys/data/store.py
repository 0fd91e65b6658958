"""The rows of a prepared data set: labels, ids, codes and raw numbers, memory-mapped or in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.arrow import ArrowFile, FixedColumn, ListColumn
from recsys.data.groups import NO_LABEL
from recsys.data.jagged import gather_indices, offsets_of
from recsys.data.vocabulary import Codes
from recsys.errors import InputError
from recsys.schema.resolved import Schema

_ENCODED = "encoded"
"""A column that only rows in memory have."""
ReadColumn = Callable[[np.ndarray], np.ndarray]
"""Maps [n] row numbers to [n] or [n, width] values."""


class ReadTokens(Protocol):
    """Reads a token sequence of rows."""

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the int32 codes of [n] rows, end to end, and the [n] int32 lengths."""


@dataclass(frozen=True)
class EncodedRows:
    """Rows in the form of a prepared data set; none of the values depends on a split."""

    sparse: np.ndarray
    """[n, n_categorical] int32 codes."""
    measured: np.ndarray
    """[n, n_measured] float32 raw numbers, NaN for null."""
    sequence_lengths: np.ndarray
    """[n, n_token_sequences] int32 lengths before truncation."""
    tokens: dict[str, tuple[np.ndarray, np.ndarray]]
    """By sequence: the [n + 1] offsets of the rows and their int32 codes, end to end."""
    items: Codes | None = None
    """[n] target items, including those below the frequency threshold; None if not requested."""
    numbers: np.ndarray | None = None
    """[n] row numbers in the prepared data set; None for rows from elsewhere."""
    encoded_codes: np.ndarray | None = None
    """[n, n_categorical] int32 codes that encodings from counts are of; None for those of `sparse`."""
    encoded_tokens: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
    """The tokens that encodings from counts are of, by sequence; None for those of `tokens`."""


@dataclass(frozen=True)
class ExtraColumn:
    """A dense column from outside the data set."""

    name: str
    values: np.ndarray
    """[n_rows] float32, NaN for rows without a value."""
    origin: str
    """The source file, for error messages."""


@dataclass(frozen=True, eq=False)
class RowStore:
    """Reads rows by their numbers, 0 .. n_rows - 1."""

    schema: Schema
    n_rows: int
    columns: dict[str, ReadColumn]
    """By name in `layout`."""
    tokens: dict[str, ReadTokens]
    """By token sequence."""
    folder: Path | None = None
    """Folder of the prepared data set; None for rows in memory."""
    extra: ExtraColumn | None = None
    encoded_tokens: dict[str, ReadTokens] | None = None
    """The tokens that encodings from counts are of, by sequence, where they are not those of `tokens`."""

    @classmethod
    def open(cls, folder: Path, schema: Schema, n_rows: int) -> "RowStore":
        """Opens the memory-mapped rows of a prepared data set.

        Raises:
            InputError: if a file is not a complete Arrow file.
        """
        rows = ArrowFile(folder / layout.ROWS_FILE)
        columns: dict[str, ReadColumn] = {name: FixedColumn(rows, name) for name in rows.schema.names}
        if (past_counts := folder / layout.PAST_COUNTS_FILE).is_file():
            columns[layout.PAST_COUNTS] = load_array(past_counts).__getitem__
        return cls(
            schema=schema,
            n_rows=n_rows,
            columns=columns,
            tokens={
                sequence.name: ListColumn(ArrowFile(folder / layout.tokens_file(sequence.name)))
                for sequence in schema.token_sequences
            },
            folder=folder,
        )

    @classmethod
    def from_encoded(cls, rows: EncodedRows, schema: Schema) -> "RowStore":
        """Wraps [n] rows in memory, numbered from 0, without labels or ids."""
        n = len(rows.sparse)
        columns = {
            layout.LABEL: np.full(n, NO_LABEL, np.uint8),
            layout.SPARSE: rows.sparse,
            layout.DENSE: rows.measured,
            _ENCODED: rows.sparse if rows.encoded_codes is None else rows.encoded_codes,
            layout.SEQUENCE_LENGTH: rows.sequence_lengths,
        }
        return cls(
            schema=schema,
            n_rows=n,
            columns={name: values.__getitem__ for name, values in columns.items()},
            tokens=_in_memory(rows.tokens),
            encoded_tokens=None if rows.encoded_tokens is None else _in_memory(rows.encoded_tokens),
        )

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n] float32 labels: 0, 1, or NaN."""
        values = self.columns[layout.LABEL](rows)
        return np.where(values == NO_LABEL, np.nan, values).astype(np.float32)

    def weights(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the [n] float32 weights of rows; None if rows have no weights."""
        return self.columns[layout.WEIGHT](rows) if layout.WEIGHT in self.columns else None

    def counted_labels(self, rows: np.ndarray) -> np.ndarray:
        """Returns the labels of the rows that count: those with a weight above zero."""
        labels, weights = self.labels(rows), self.weights(rows)
        return labels if weights is None else labels[weights > 0]

    def row_ids(self, rows: np.ndarray) -> pa.Array:
        """Returns the [n] row ids as text, or the row numbers if the data set has no ids."""
        if self.folder is None or not self.has_ids:
            return pa.array(rows)
        return _read_column(self.folder / layout.IDS_FILE, layout.ROW_ID).take(pa.array(rows)).combine_chunks()

    @property
    def has_ids(self) -> bool:
        """Whether rows have ids of their own."""
        return self.folder is not None and (self.folder / layout.IDS_FILE).is_file()

    @cached_property
    def item_names(self) -> pa.Array:
        """The text of each target item; empty if the schema has no target item."""
        path = None if self.folder is None else self.folder / layout.ITEMS_FILE
        if path is None or not path.is_file():
            return pa.array([], pa.string())
        return _read_column(path, layout.ITEM).combine_chunks()

    def items(self, rows: np.ndarray) -> np.ndarray:
        """Returns the [n] int32 target items of rows as indices into `item_names`; -1 for null."""
        return self.columns[layout.ITEM](rows)

    def users(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the [n] int32 users of rows, numbered from 0, -1 for null; None if the schema names no user."""
        return self.columns[layout.USER](rows) if layout.USER in self.columns else None

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the [n] uint8 groups of rows; None for rows that are not of a prepared data set."""
        return self.columns[layout.GROUP](rows) if layout.GROUP in self.columns else None

    def past_counts(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns [n, 2 features] int32, as in `layout.PAST_COUNTS_FILE`; None for rows without such counts."""
        return self.columns[layout.PAST_COUNTS](rows) if layout.PAST_COUNTS in self.columns else None

    def days(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the [n] int16 days of rows, counted from 0, -1 for a row without one; None without a day column."""
        return self.columns[layout.DAY](rows) if layout.DAY in self.columns else None

    def times(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns [n] integers in the order of the rows' times: ranks of a split by time, else days; None without."""
        return self.columns[layout.TIME](rows) if layout.TIME in self.columns else self.days(rows)

    def read_sparse(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n, n_categorical] int32 codes."""
        return self.columns[layout.SPARSE](rows)

    def read_encoded_codes(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n, n_categorical] int32 codes that encodings from counts are of."""
        return self.columns[_ENCODED if _ENCODED in self.columns else layout.SPARSE](rows)

    def read_measured(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n, n_measured] float32 raw numbers, NaN for null."""
        return self.columns[layout.DENSE](rows)

    def sequence_lengths(self, sequence: str, rows: np.ndarray) -> np.ndarray:
        """Returns the [n] int32 lengths of a token sequence before truncation."""
        index = [feature.name for feature in self.schema.token_sequences].index(sequence)
        return self.columns[layout.SEQUENCE_LENGTH](rows)[:, index]

    def read_tokens(self, sequence: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the int32 codes of a token sequence, end to end, and the [n] lengths."""
        return self.tokens[sequence](rows)

    def read_encoded_tokens(self, sequence: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tokens that encodings from counts are of, as `read_tokens`."""
        return (self.tokens if self.encoded_tokens is None else self.encoded_tokens)[sequence](rows)

    def encoded(self, rows: np.ndarray) -> EncodedRows:
        """Loads [n] rows into memory, as `from_encoded` expects them."""
        schema, empty = self.schema, np.zeros((len(rows), 0))
        tokens = {sequence.name: self.read_tokens(sequence.name, rows) for sequence in schema.token_sequences}
        lengths = self.columns[layout.SEQUENCE_LENGTH](rows) if tokens else empty.astype(np.int32)
        return EncodedRows(
            sparse=self.read_sparse(rows) if schema.categorical else empty.astype(np.int32),
            measured=self.read_measured(rows) if schema.measured else empty.astype(np.float32),
            sequence_lengths=lengths,
            tokens={name: (offsets_of(n_tokens), codes) for name, (codes, n_tokens) in tokens.items()},
            numbers=rows,
        )


@dataclass(frozen=True)
class _TokensInMemory:
    """A token sequence in memory, with the interface of `ListColumn`."""

    offsets: np.ndarray
    codes: np.ndarray

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts, lengths = self.offsets[:-1][rows], np.diff(self.offsets)[rows]
        return self.codes[gather_indices(starts, lengths)], lengths.astype(np.int32)


def _in_memory(tokens: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, ReadTokens]:
    return {name: _TokensInMemory(*offsets_and_codes) for name, offsets_and_codes in tokens.items()}


def load_array(path: Path) -> np.ndarray:
    """Memory-maps a .npy file.

    Raises:
        InputError: if the file is not a readable array.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable array ({error}): prepare the data again") from error


def _read_column(path: Path, name: str) -> pa.ChunkedArray:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()[name]
