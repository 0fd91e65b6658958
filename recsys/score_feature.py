"""A further feature for the rows of a prepared data set: scores that another run wrote, joined by row id."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.dataset import ExtraColumn, PreparedDataset
from recsys.errors import InputError
from recsys.files import is_done

SCORES_FILE = "scores.parquet"
RETRIEVAL_SCORE = "retrieval_score"
_BLOCK_ROWS = 262_144


@dataclass(frozen=True)
class Features:
    """A data set with a further column."""

    dataset: PreparedDataset
    fingerprint: str
    """Of the file that the column comes from."""


def write_scores(path: Path, row_ids: pa.Array, scores: np.ndarray) -> None:
    """scores.parquet: row_id (text), score (float32)."""
    table = pa.table({"row_id": pc.cast(row_ids, pa.string()), "score": scores.astype(np.float32)})
    pq.write_table(table, path, compression="zstd")


def with_scores(dataset: PreparedDataset, run: Path) -> Features:
    """The same rows with a run's scores as one more dense column.

    A split standardizes the column by its fitting rows, and needs a score for each of its rows.

    Args:
        dataset: the rows.
        run: a finished run that wrote scores.parquet.

    Raises:
        InputError: when the file is missing or broken, repeats a row, or shares none with the data set.
    """
    path = run / SCORES_FILE
    if not is_done(run) or not path.is_file():
        raise InputError(
            f"{run} is no finished run with {SCORES_FILE}: give the folder of python -m pipelines.retrieval"
        )
    try:
        table = pq.read_table(path, columns=["row_id", "score"]).combine_chunks()
        ids, scores = pc.cast(table["row_id"], pa.string()), pc.cast(table["score"], pa.float32())
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} is not readable ({error}): run the retrieval again under another --out") from error
    ids = ids.combine_chunks()
    if pc.count_distinct(ids).as_py() != len(ids):
        raise InputError(f"{path} holds some rows twice: run the retrieval again under another --out")
    scores_of = np.append(scores.to_numpy(), np.float32(np.nan))
    values = np.empty(dataset.n_rows, np.float32)
    for start in range(0, dataset.n_rows, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, dataset.n_rows))
        found = pc.index_in(pc.cast(dataset.row_ids(rows), pa.string()), value_set=ids).fill_null(-1)
        values[rows] = scores_of[found.to_numpy()]
    if np.isnan(values).all():
        raise InputError(f"{path} and {dataset.folder} share no row: they are of different data")
    column = ExtraColumn(RETRIEVAL_SCORE, values, str(path))
    return Features(dataset.with_column(column), hashlib.sha256(path.read_bytes()).hexdigest())
