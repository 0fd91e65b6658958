"""Writers of the Arrow files of a prepared data set: rows, sequences, and the list of target items."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.layout import BLOCK_ROWS
from recsys.data.vocabulary import Codes


def fixed_lists(values: np.ndarray, dtype: pa.DataType) -> pa.Array:
    """Converts [n, width] numbers to [n] lists of fixed size."""
    width = values.shape[1]
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1), dtype), width)


def _pack(dtype: pa.DataType, values: np.ndarray) -> pa.Array:
    if pa.types.is_fixed_size_list(dtype):
        return fixed_lists(values, dtype.value_type)
    return pa.array(values, dtype)


class _BlockWriter(ABC):
    """Writes an Arrow IPC file in blocks of BLOCK_ROWS; added batches can have any size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
        self._n_pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._n_pending:
            self._write(self._n_pending)
        self._writer.close()
        self._sink.close()

    @abstractmethod
    def _take(self, n_rows: int) -> list[pa.Array]:
        """Removes the first pending rows and returns their columns."""

    def _write_full_blocks(self, n_added: int) -> None:
        self._n_pending += n_added
        while self._n_pending >= BLOCK_ROWS:
            self._write(BLOCK_ROWS)

    def _write(self, n_rows: int) -> None:
        self._writer.write_batch(pa.RecordBatch.from_arrays(self._take(n_rows), schema=self._schema))
        self._n_pending -= n_rows


class RowWriter(_BlockWriter):
    """Writes columns of fixed width."""

    def __init__(self, path: Path, columns: dict[str, pa.DataType]) -> None:
        super().__init__(path, pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()]))
        self._types = columns
        self._chunks: dict[str, list[np.ndarray]] = {name: [] for name in columns}

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Appends rows: each column [n] or [n, width]."""
        for name, chunks in self._chunks.items():
            chunks.append(batch[name])
        self._write_full_blocks(len(next(iter(batch.values()))))

    def _take(self, n_rows: int) -> list[pa.Array]:
        arrays = []
        for name, dtype in self._types.items():
            values = np.concatenate(self._chunks[name])
            arrays.append(_pack(dtype, values[:n_rows]))
            self._chunks[name] = [values[n_rows:]]
        return arrays


class JaggedWriter(_BlockWriter):
    """Writes a sequence's codes as list<int32>."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, pa.schema([pa.field(name, pa.list_(pa.int32()))]))
        self._codes: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []

    def add(self, offsets: np.ndarray, codes: np.ndarray) -> None:
        """Appends n rows: [n + 1] offsets that start at 0, and the int32 codes they index."""
        self._codes.append(codes)
        self._lengths.append(np.diff(offsets))
        self._write_full_blocks(len(offsets) - 1)

    def _take(self, n_rows: int) -> list[pa.Array]:
        codes, lengths = np.concatenate(self._codes), np.concatenate(self._lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[:n_rows])]).astype(np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[: offsets[-1]], pa.int32()))
        self._codes, self._lengths = [codes[offsets[-1] :]], [lengths[n_rows:]]
        return [array]


class ItemList:
    """The target items of all rows, for the catalog, numbered in the order of their first occurrence.

    Items below the frequency floor of features are included.
    """

    def __init__(self) -> None:
        self._names = pa.array([], pa.string())

    def number(self, items: Codes) -> np.ndarray:
        """Returns the [n] int32 item numbers of [n] codes; -1 for null."""
        distinct_codes, first_rows = np.unique(items.codes[items.codes >= 0], return_index=True)
        names = pc.unique(items.values.take(pa.array(distinct_codes[np.argsort(first_rows)])))
        is_known = pc.is_in(names, value_set=self._names)
        self._names = pa.concat_arrays([self._names, names.filter(pc.invert(is_known))])
        numbers = pc.index_in(items.values, value_set=self._names).to_numpy(zero_copy_only=False)
        return np.append(numbers, -1).astype(np.int32)[items.codes]

    def write(self, folder: Path) -> None:
        """Writes items.arrow."""
        batch = pa.RecordBatch.from_arrays([self._names], [layout.ITEM])
        with pa.ipc.new_file(folder / layout.ITEMS_FILE, batch.schema) as file:
            file.write_batch(batch)
