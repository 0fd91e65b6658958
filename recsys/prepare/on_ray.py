"""The two passes over the rows with Ray Data: pieces of the rows are read, then encoded, on any free core.

All machines must access the raw files and the output folder under the same paths. The output equals that of one
process byte for byte: the same functions are mapped over the pieces, and counts can be merged in any order.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.config import PrepareConfig
from recsys.data.store import EncodedRows
from recsys.errors import InputError
from recsys.prepare.digest import codes_of, to_dictionary
from recsys.prepare.encode import write_rows
from recsys.prepare.fit import Counts, Fitted
from recsys.prepare.passes import digest_piece, encode_piece, plan_work, read_stream
from recsys.prepare.scan import Scan
from recsys.prepare.writers import fixed_lists
from recsys.raw.source import Source
from recsys.system.progress import progress_line

PIECE_ROWS = 200_000
_FOLDER = "pieces"
_TOKENS = "tokens"


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("--engine ray needs Ray, which is not installed: pip install -e '.[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # joins the cluster of RAY_ADDRESS, or starts one on this machine
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def digest_all(source: Source, scan: Scan, config: PrepareConfig, folder: Path) -> Fitted:
    """The first pass: maps `digest_piece` over the pieces and merges the counts."""
    ray = _ray()
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)  # of a pass with other folds
    (folder / _FOLDER).mkdir()
    work_refs = [ray.put(work) for work in plan_work(source, scan, PIECE_ROWS)]
    source_ref = ray.put(source)
    groups, piece_folder = scan.groups, (folder / _FOLDER).resolve()

    def digest(row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["id"])
        work = ray.get(work_refs[number])
        return {
            "counts": digest_piece(ray.get(source_ref), work, groups, config, _file(piece_folder, "digests", number))
        }

    counts = Counts(source.schema, scan.groups, config)
    with progress_line("reading", len(work_refs), unit="pieces") as line:
        for row in _map_pieces(ray, digest, len(work_refs)).iter_rows():
            counts.merge(row["counts"])
            line.advance(1)
    return counts.finish()


def encode_all(source: Source, scan: Scan, fitted: Fitted, folder: Path) -> None:
    """The second pass: maps `encode_piece` over the pieces and writes the rows in order."""
    write_rows(_encoded_rows(source, scan, fitted, folder), source.schema, scan, folder)


def _encoded_rows(source: Source, scan: Scan, fitted: Fitted, folder: Path) -> Iterator[EncodedRows]:
    ray = _ray()
    schema, vocabularies_ref, piece_folder = source.schema, ray.put(fitted.vocabularies), (folder / _FOLDER).resolve()
    n_pieces = len(plan_work(source, scan, PIECE_ROWS))

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["id"])
        with pa.OSFile(str(_file(piece_folder, "encoded", number)), "wb") as sink:
            writer = None
            for rows in encode_piece(_file(piece_folder, "digests", number), schema, ray.get(vocabularies_ref)):
                batch = _as_batch(rows)
                writer = writer or pa.ipc.new_stream(sink, batch.schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
        return {"number": number}

    _map_pieces(ray, encode, n_pieces).take_all()
    for number in range(n_pieces):
        for batch in read_stream(_file(piece_folder, "encoded", number)):
            yield _from_batch(batch)
    shutil.rmtree(piece_folder)


def _map_pieces(ray: Any, work: Any, n_pieces: int) -> Any:
    """Maps `work` over the piece numbers, with one task per piece."""
    return ray.data.range(n_pieces, override_num_blocks=n_pieces).map(work)


def _file(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number}.arrows"


def _as_batch(rows: EncodedRows) -> pa.RecordBatch:
    # The label column sets the number of rows if no other column does.
    arrays: dict[str, pa.Array] = {layout.LABEL: pa.nulls(len(rows.sparse))}
    matrices = {layout.SPARSE: rows.sparse, layout.DENSE: rows.measured, layout.SEQUENCE_LENGTH: rows.sequence_lengths}
    for name, values in matrices.items():
        if values.shape[1]:
            arrays[name] = fixed_lists(values, pa.from_numpy_dtype(values.dtype))
    for name, (offsets, codes) in rows.tokens.items():
        arrays[f"{_TOKENS}/{name}"] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(codes))
    if rows.items is not None:
        arrays[layout.ITEM] = to_dictionary(rows.items)
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _from_batch(batch: pa.RecordBatch) -> EncodedRows:
    def matrix(name: str, dtype: type[np.generic]) -> np.ndarray:
        if name not in batch.schema.names:
            return np.zeros((batch.num_rows, 0), dtype)
        return np.asarray(batch.column(name).flatten()).reshape(batch.num_rows, -1)

    lists = {name: batch.column(name) for name in batch.schema.names if name.startswith(f"{_TOKENS}/")}
    return EncodedRows(
        sparse=matrix(layout.SPARSE, np.int32),
        measured=matrix(layout.DENSE, np.float32),
        sequence_lengths=matrix(layout.SEQUENCE_LENGTH, np.int32),
        tokens={
            name.removeprefix(f"{_TOKENS}/"): (np.asarray(column.offsets), np.asarray(column.values))
            for name, column in lists.items()
        },
        items=codes_of(batch.column(layout.ITEM)) if layout.ITEM in batch.schema.names else None,
    )
