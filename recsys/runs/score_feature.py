"""A retrieval run's scores as an additional feature of a prepared data set, joined by row id."""

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
    """A data set with a score column."""

    dataset: PreparedDataset
    feature: ScoreFeature
    """The source of the column."""


def write_scores(path: Path, dataset: PreparedDataset, rows: np.ndarray, scores: np.ndarray) -> None:
    """Writes scores.parquet: row_id (text) and score (float32) of [n] rows."""
    ids = pc.cast(dataset.store.row_ids(rows), pa.string())
    table = pa.table({"row_id": ids, "score": scores.astype(np.float32)})
    pq.write_table(table.replace_schema_metadata({_DATA: _size_of(dataset)}), path, compression="zstd")


def _size_of(dataset: PreparedDataset) -> str:
    """The size of a data set as text; distinguishes data sets whose row ids are only row numbers."""
    return f"{dataset.n_rows} rows, {sum(group.n_positive for group in dataset.groups)} clicks"


def with_scores(dataset: PreparedDataset, run: Path, splits: Sequence[str]) -> ScoredDataset:
    """Adds a run's scores to a data set as a numeric column.

    A split standardizes the column with the statistics of its fitting rows, and needs a score for every row.

    Args:
        dataset: the data set.
        run: a finished run that wrote scores.parquet.
        splits: the splits to fit on; must be the run's split, whose held-out rows the run was not fitted to.

    Raises:
        InputError: if the file is missing or damaged, repeats a row, has no row of the data set, or is of another
            split.
    """
    path = run / SCORES_FILE
    if not is_done(run) or not path.is_file():
        raise InputError(
            f"{run} is not a finished run with {SCORES_FILE}: pass a run folder of python -m pipelines.retrieval"
        )
    fitted = read_run_section(run).splits
    if len(fitted) != 1:
        raise InputError(f"{path} does not record one split that it was fitted on: run the retrieval again")
    if tuple(splits) != fitted:
        raise InputError(
            f"{run} was fitted on split {fitted[0]!r}, so its scores leak rows that {', '.join(splits)} would evaluate "
            f"on: fit on {fitted[0]} only"
        )
    try:
        table = pq.read_table(path, columns=["row_id", "score"]).combine_chunks()
        ids, scores = pc.cast(table["row_id"], pa.string()), pc.cast(table["score"], pa.float32())
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} is not readable ({error}): run the retrieval again with another --out") from error
    ids = ids.combine_chunks()
    if pc.count_distinct(ids).as_py() != len(ids):
        raise InputError(f"{path} has duplicate row ids: run the retrieval again with another --out")
    scores_or_nan = np.append(scores.to_numpy(), np.float32(np.nan))
    values = np.empty(dataset.n_rows, np.float32)
    for rows in AllRows(dataset.n_rows).blocks():
        positions = pc.index_in(pc.cast(dataset.store.row_ids(rows), pa.string()), value_set=ids).fill_null(-1)
        values[rows] = scores_or_nan[positions.to_numpy()]
    scored_data = (table.schema.metadata or {}).get(_DATA.encode(), b"").decode()
    if np.isnan(values).all() or scored_data != _size_of(dataset):
        raise InputError(
            f"{path} has scores of other data ({scored_data or 'unknown'}) than {dataset.folder} "
            f"({_size_of(dataset)}): pass a retrieval run of the same raw files"
        )
    column = ExtraColumn(RETRIEVAL_SCORE, values, str(path))
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    return ScoredDataset(dataset.with_column(column), ScoreFeature(run=str(run.resolve()), fingerprint=fingerprint))
