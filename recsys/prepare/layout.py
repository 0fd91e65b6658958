"""The files of a prepared data set: their names, what they hold, and how rows are written into them."""

from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from recsys.config import StrictModel
from recsys.prepare.config import PrepareConfig
from recsys.prepare.kinds import Kind
from recsys.prepare.scan import Group
from recsys.schema import Schema
from recsys.schema_config import SchemaConfig

FORMAT_VERSION = 3
BLOCK_ROWS = 65_536
"""Rows of a record batch; all are full but the last, so that a row's batch is a division."""

SCHEMA_FILE, VOCAB_FILE, STATS_FILE, GROUPS_FILE = "schema.json", "vocab.json", "stats.json", "folds.json"
ROWS_FILE, IDS_FILE, ITEMS_FILE, VALUES_FILE = "rows.arrow", "ids.arrow", "items.arrow", "values.arrows"
COUNTS_FILE, FOLD_INDICES_FILE, TRUTH_FILE = "vocab_counts.npy", "fold_indices.npy", "truth.npy"
GENERATOR_FILE = "generator.json"
"""What the rows were generated from, where they were."""
LABEL, GROUP, SPARSE, DENSE, SEQUENCE_LENGTH, ROW_ID = "label", "group", "sparse", "dense", "seq_length", "row_id"
DAY = "day"
"""Place of a row's day among all days; -1 where it has none."""
ITEM = "item"
"""Which target item a row is of, a number in items.arrow; -1 where it is null."""


def tokens_file(sequence: str) -> str:
    """The file of a token sequence: one list<int32> of codes a row."""
    return f"tokens_{quote(sequence, safe='')}.arrow"


class Manifest(StrictModel):
    """schema.json: what the data set was made from, and its resolved schema."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    format_version: int
    fingerprint: str
    """Of the schema, the settings and the raw files' names, sizes and times."""
    name: str
    schema_: Schema = Field(alias="schema")
    schema_config: SchemaConfig
    prepare: PrepareConfig
    last_day: str | None
    kinds: dict[str, Kind]
    """Of the columns that features are read from, as the training files have them."""
    n_rows: int
    test_files: tuple[str, ...] = ()
    """Where the files of the test split stood."""
    truth_file: str | None = None
    """Where the generator's truth stood."""


class Groups(StrictModel):
    """folds.json: the groups in whose order fold_indices.npy lists the rows."""

    groups: tuple[Group, ...]


def fixed_lists(values: np.ndarray, dtype: pa.DataType) -> pa.Array:
    """[n, width] numbers as [n] lists of fixed size."""
    width = values.shape[1]
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1), dtype), width)


def _pack(dtype: pa.DataType, values: np.ndarray) -> pa.Array:
    if pa.types.is_fixed_size_list(dtype):
        return fixed_lists(values, dtype.value_type)
    return pa.array(values, dtype)


class RowWriter:
    """Writes columns of fixed width in blocks of BLOCK_ROWS, whatever the sizes of the batches it is given."""

    def __init__(self, path: Path, columns: dict[str, pa.DataType]) -> None:
        self._types = columns
        self._sink = pa.OSFile(str(path), "wb")
        self._schema = pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()])
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
        self._n_pending = 0

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(self._n_pending)
        self._writer.close()
        self._sink.close()

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Appends rows: each column [n] or [n, width]."""
        for name, parts in self._parts.items():
            parts.append(batch[name])
        self._n_pending += len(next(iter(batch.values())))
        while self._n_pending >= BLOCK_ROWS:
            self._write(BLOCK_ROWS)

    def _write(self, n_rows: int) -> None:
        if n_rows == 0:
            return
        arrays = []
        for name, dtype in self._types.items():
            values = np.concatenate(self._parts[name])
            arrays.append(_pack(dtype, values[:n_rows]))
            self._parts[name] = [values[n_rows:]]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._n_pending -= n_rows


class JaggedWriter:
    """Writes a sequence's codes as list<int32> in blocks of BLOCK_ROWS."""

    def __init__(self, path: Path, name: str) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._schema = pa.schema([pa.field(name, pa.list_(pa.int32()))])
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._codes: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._n_pending = 0

    def __enter__(self) -> "JaggedWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(self._n_pending)
        self._writer.close()
        self._sink.close()

    def add(self, offsets: np.ndarray, codes: np.ndarray) -> None:
        """Appends n rows: [n + 1] offsets from 0 on, and the int32 codes they point into."""
        self._codes.append(codes)
        self._lengths.append(np.diff(offsets))
        self._n_pending += len(offsets) - 1
        while self._n_pending >= BLOCK_ROWS:
            self._write(BLOCK_ROWS)

    def _write(self, n_rows: int) -> None:
        if n_rows == 0:
            return
        codes, lengths = np.concatenate(self._codes), np.concatenate(self._lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[:n_rows])]).astype(np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[: offsets[-1]], pa.int32()))
        self._writer.write_batch(pa.RecordBatch.from_arrays([array], schema=self._schema))
        self._codes, self._lengths = [codes[offsets[-1] :]], [lengths[n_rows:]]
        self._n_pending -= n_rows
