"""A further feature for the rows of a prepared data set: scores that another run wrote, joined by row id."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import AllRows
from recsys.data.store import ExtraColumn
from recsys.errors import InputError
from recsys.runs.config import ScoreFeature, read_run_section
from recsys.system.files import is_done

SCORES_FILE = "scores.parquet"
RETRIEVAL_SCORE = "retrieval_score"
_DATA = "data"


@dataclass(frozen=True)
class ScoredDataset:
    """A data set with a further column."""

    dataset: PreparedDataset
    feature: ScoreFeature
    """Where the column comes from."""


def write_scores(path: Path, dataset: PreparedDataset, rows: np.ndarray, scores: np.ndarray) -> None:
    """scores.parquet: row_id (text), score (float32) of [n] rows."""
    ids = pc.cast(dataset.store.row_ids(rows), pa.string())
    table = pa.table({"row_id": ids, "score": scores.astype(np.float32)})
    pq.write_table(table.replace_schema_metadata({_DATA: _size_of(dataset)}), path, compression="zstd")


def _size_of(dataset: PreparedDataset) -> str:
    """Tells data sets apart whose row ids are but numbers."""
    return f"{dataset.n_rows} rows, {sum(group.n_positive for group in dataset.groups)} clicks"


def with_scores(dataset: PreparedDataset, run: Path, splits: Sequence[str]) -> ScoredDataset:
    """The same rows with a run's scores as one more dense column.

    A split standardizes the column by its fitting rows, and needs a score for each of its rows.

    Args:
        dataset: the rows.
        run: a finished run that wrote scores.parquet.
        splits: those to fit on: the run's own alone is one whose held-out rows the scores have not seen.

    Raises:
        InputError: when the file is missing or broken, repeats a row, shares none with the data set, or is of another
            split.
    """
    path = run / SCORES_FILE
    if not is_done(run) or not path.is_file():
        raise InputError(
            f"{run} is no finished run with {SCORES_FILE}: give the folder of python -m pipelines.retrieval"
        )
    fitted = read_run_section(run).splits
    if len(fitted) != 1 or tuple(splits) != fitted:
        raise InputError(
            f"{run} learned from split {fitted[0]!r}, so that its scores know rows that {', '.join(splits)} would be "
            f"evaluated on: fit on {fitted[0]} alone"
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
    for rows in AllRows(dataset.n_rows).blocks():
        found = pc.index_in(pc.cast(dataset.store.row_ids(rows), pa.string()), value_set=ids).fill_null(-1)
        values[rows] = scores_of[found.to_numpy()]
    of = (table.schema.metadata or {}).get(_DATA.encode(), b"").decode()
    if np.isnan(values).all() or of != _size_of(dataset):
        raise InputError(
            f"{path} is of other data ({of or 'unknown'}) than {dataset.folder} ({_size_of(dataset)}): give a "
            "retrieval run of the same raw files"
        )
    column = ExtraColumn(RETRIEVAL_SCORE, values, str(path))
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    return ScoredDataset(dataset.with_column(column), ScoreFeature(run=str(run), fingerprint=fingerprint))
