"""Writers of the Arrow files of a prepared data set."""

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from recsys.data.layout import BLOCK_ROWS


def fixed_lists(values: np.ndarray, dtype: pa.DataType) -> pa.Array:
    """Converts [n, width] numbers to [n] lists of fixed size."""
    width = values.shape[1]
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1), dtype), width)


def _pack(dtype: pa.DataType, values: np.ndarray) -> pa.Array:
    if pa.types.is_fixed_size_list(dtype):
        return fixed_lists(values, dtype.value_type)
    return pa.array(values, dtype)


class RowWriter:
    """Writes columns of fixed width in blocks of BLOCK_ROWS; added batches can have any size."""

    def __init__(self, path: Path, columns: dict[str, pa.DataType]) -> None:
        self._types = columns
        self._sink = pa.OSFile(str(path), "wb")
        self._schema = pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()])
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._chunks: dict[str, list[np.ndarray]] = {name: [] for name in columns}
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
        for name, chunks in self._chunks.items():
            chunks.append(batch[name])
        self._n_pending += len(next(iter(batch.values())))
        while self._n_pending >= BLOCK_ROWS:
            self._write(BLOCK_ROWS)

    def _write(self, n_rows: int) -> None:
        if n_rows == 0:
            return
        arrays = []
        for name, dtype in self._types.items():
            values = np.concatenate(self._chunks[name])
            arrays.append(_pack(dtype, values[:n_rows]))
            self._chunks[name] = [values[n_rows:]]
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
        """Appends n rows: [n + 1] offsets that start at 0, and the int32 codes they index."""
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
