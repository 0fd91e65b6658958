"""Memory-mapped columns of Arrow IPC files; rows are gathered in any order without loading the other rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data.jagged import gather_indices
from recsys.data.layout import BLOCK_ROWS
from recsys.errors import InputError


class ArrowFile:
    """A memory-mapped Arrow IPC file; every record batch except the last has BLOCK_ROWS rows.

    Raises:
        InputError: if the file is not a complete Arrow file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._memory_map = pa.memory_map(str(path))
            self._reader = pa.ipc.open_file(self._memory_map)
            self.batches = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is not a complete Arrow file ({error}): prepare the data again") from error
        self.schema = self._reader.schema
        self.n_rows = sum(batch.num_rows for batch in self.batches)
        assert all(batch.num_rows == BLOCK_ROWS for batch in self.batches[:-1]), f"{path} has uneven record batches"
        self._memory_map.seek(0)
        self._buffer = self._memory_map.read_buffer(self._memory_map.size())

    def flat(self, dtype: type[np.generic]) -> np.ndarray:
        """Returns the whole file as one array of a dtype; the buffers of all batches are slices of it."""
        size = np.dtype(dtype).itemsize
        return np.frombuffer(self._buffer, dtype, self._buffer.size // size)

    def start_of(self, buffer: pa.Buffer, dtype: type[np.generic]) -> int:
        """Returns the index in `flat(dtype)` where a batch's buffer starts."""
        offset = buffer.address - self._buffer.address
        assert offset % np.dtype(dtype).itemsize == 0, "Arrow aligns its buffers to 8 bytes"
        return offset // np.dtype(dtype).itemsize


class FixedColumn:
    """A column of numbers or of fixed-size lists of numbers; rows are gathered as [n] or [n, width].

    The file is one flat array and a row is a window of it at a computed start, so one indexing operation gathers rows
    from all record batches.
    """

    def __init__(self, file: ArrowFile, name: str) -> None:
        dtype = file.schema.field(name).type
        self.is_list = pa.types.is_fixed_size_list(dtype)
        self.width = dtype.list_size if self.is_list else 1
        value_type = (dtype.value_type if self.is_list else dtype).to_pandas_dtype()
        arrays = [batch.column(name) for batch in file.batches]
        buffers = [(array.values if self.is_list else array).buffers()[1] for array in arrays]
        self._batch_starts = np.array([file.start_of(buffer, value_type) for buffer in buffers], np.int64)
        self._windows = np.lib.stride_tricks.sliding_window_view(file.flat(value_type), self.width)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Copies the values of [n] rows."""
        values = self._windows[self._batch_starts[rows // BLOCK_ROWS] + rows % BLOCK_ROWS * self.width]
        return values if self.is_list else values[:, 0]


class ListColumn:
    """The only column of a file, of type list<int32>; rows of varying length are gathered end to end."""

    def __init__(self, file: ArrowFile) -> None:
        arrays = [batch.column(0) for batch in file.batches]
        self._flat = file.flat(np.int32)
        self._offset_starts = np.array([file.start_of(array.buffers()[1], np.int32) for array in arrays], np.int64)
        # A batch without tokens has no value buffer; its start is never used.
        values = [array.values.buffers()[1] for array in arrays]
        self._value_starts = np.array(
            [0 if v is None or v.size == 0 else file.start_of(v, np.int32) for v in values], np.int64
        )

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the int32 tokens of [n] rows, end to end, and the [n] int32 lengths."""
        batch = rows // BLOCK_ROWS
        offset = self._offset_starts[batch] + rows % BLOCK_ROWS
        start, end = self._flat[offset], self._flat[offset + 1]
        lengths = end - start
        starts = self._value_starts[batch] + start
        return self._flat[gather_indices(starts, lengths)], lengths
