"""The rows of a submission: rows of unprepared parquet files, or the test rows of a prepared data set."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.dataset import PreparedDataset
from recsys.data.layout import IDS_FILE
from recsys.data.store import EncodedRows
from recsys.errors import InputError
from recsys.prepare.digest import columns_to_read
from recsys.prepare.encode import encode_block
from recsys.raw.files.raw_file import READ_ROWS
from recsys.raw.forms import check_canonical_numbers
from recsys.raw.ids_and_labels import read_ids
from recsys.raw.opening import open_rows_to_score
from recsys.system.threads import in_threads


class RowsToScore(Protocol):
    """Rows to score, read block by block in their order."""

    n_rows: int
    id_name: str
    origin: str
    """The source of the rows, for error messages."""

    def blocks(self) -> Iterator[tuple[pa.Array, EncodedRows]]:
        """Yields blocks of (ids as text, encoded rows)."""
        ...

    def ids(self) -> pa.Array:
        """[n] ids of all rows as text."""
        ...


class FileRows:
    """The rows of parquet files; without an id column the ids are row numbers.

    Args:
        dataset: the data set whose schema and vocabularies encode the rows.
        paths: parquet files.
        folder: the folder of side tables; None takes that of the first file.

    Raises:
        InputError: if the files lack a column, or have no rows.
    """

    def __init__(self, dataset: PreparedDataset, paths: list[Path], folder: Path | None = None) -> None:
        manifest = dataset.manifest
        names = [str(path.absolute()) for path in paths]
        self._dataset = dataset
        self._source = open_rows_to_score(
            manifest.schema_config, manifest.schema_, manifest.kinds, names, folder or paths[0].parent
        )
        for name, form in self._source.schema.value_forms.items():
            if form.kind == "number" and manifest.schema_.form_of(name).kind == "text":
                check_canonical_numbers(dataset.vocabularies, name)
        self._id = self._source.schema.id
        self._has_id = self._id is not None and self._id in self._source.columns_of("test")
        self.n_rows = self._source.n_rows("test")
        self.id_name, self.origin = self._id or "row_id", str(paths[0])

    def blocks(self) -> Iterator[tuple[pa.Array, EncodedRows]]:
        """See `RowsToScore`."""
        schema, n_done = self._source.schema, 0
        columns = columns_to_read(schema)
        if self._has_id and self._id not in columns:
            columns.append(str(self._id))
        blocks, vocabularies = self._source.blocks("test", columns), self._dataset.vocabularies
        for block, rows in in_threads(lambda block: encode_block(block, schema, vocabularies), blocks):
            n = block.table.num_rows
            ids = read_ids(block, str(self._id)) if self._has_id else pa.array(np.arange(n_done, n_done + n))
            yield pc.cast(ids, pa.string()), rows
            n_done += n

    def ids(self) -> pa.Array:
        """See `RowsToScore`."""
        if not self._has_id:
            return pc.cast(pa.array(np.arange(self.n_rows)), pa.string())
        name = str(self._id)
        ids = [pc.cast(read_ids(block, name), pa.string()) for block in self._source.blocks("test", [name])]
        return pa.concat_arrays(ids)


class PreparedRows:
    """The test rows of a prepared data set.

    Args:
        dataset: the prepared data set.

    Raises:
        InputError: if the data set has no test rows.
    """

    def __init__(self, dataset: PreparedDataset) -> None:
        self._dataset, self._rows = dataset, dataset.partition_rows("test")
        self.n_rows = len(self._rows)
        if self.n_rows == 0:
            raise InputError(f"{dataset.folder} has no test rows: pass the parquet files to score with --test")
        self.id_name, self.origin = dataset.manifest.schema_.id or "row_id", str(dataset.folder)

    def blocks(self) -> Iterator[tuple[pa.Array, EncodedRows]]:
        """See `RowsToScore`."""
        for start in range(0, self.n_rows, READ_ROWS):
            block = slice(start, start + READ_ROWS)
            yield self._ids(block), self._dataset.store.encoded(self._row_numbers[block])

    def ids(self) -> pa.Array:
        """See `RowsToScore`."""
        return self._ids(slice(0, self.n_rows))

    def labels(self) -> np.ndarray | None:
        """[n] 0 / 1; None if the raw data has no labels for the test rows."""
        return self._dataset.store.labels(self._row_numbers) if "test" in self._dataset.predefined_splits else None

    def weights(self) -> np.ndarray | None:
        """[n] float32 weights of the rows; None if they have none."""
        return self._dataset.store.weights(self._row_numbers)

    def _ids(self, block: slice) -> pa.Array:
        has_ids = (self._dataset.folder / IDS_FILE).is_file()
        if not has_ids and self._dataset.manifest.test_files:  # row numbers, as in `FileRows`
            return pc.cast(pa.array(np.arange(self.n_rows)[block]), pa.string())
        return pc.cast(self._dataset.store.row_ids(self._row_numbers[block]), pa.string())

    @cached_property
    def _row_numbers(self) -> np.ndarray:
        return np.sort(self._rows(np.arange(self.n_rows)))  # file order
