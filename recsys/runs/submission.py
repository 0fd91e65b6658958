"""Submissions: scores in the order that is wanted, every id once, and the labels to measure them by."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import BaseModel

from recsys.config import validate
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, probability
from recsys.evaluation.metrics import Metrics
from recsys.raw.files import open_parquet
from recsys.schema.resolved import Schema
from recsys.system.files import read_json
from recsys.system.hashing import hash_ids

Scale = Literal["balanced", "natural"]


@dataclass
class ScoredRows:
    """The scores of all rows so far, in the order of the file, in little memory."""

    log_pos_weight: float
    """What takes a natural logit to the balanced one."""
    hashes: list[np.ndarray] = field(default_factory=list)
    """Of ids, block by block."""
    natural: list[np.ndarray] = field(default_factory=list)
    """Logits, block by block."""

    def add(self, ids: pa.Array, natural: np.ndarray) -> None:
        """Appends rows.

        Raises:
            RuntimeError: when a model gave no number for one of them.
        """
        if not np.isfinite(natural).all():
            raise RuntimeError(f"row {ids[int(np.flatnonzero(~np.isfinite(natural))[0])]} has no finite score")
        self.hashes.append(hash_ids(ids))
        self.natural.append(natural)

    @property
    def logits(self) -> Logits:
        """Of all rows."""
        return Logits.of_one_fit(np.concatenate(self.natural), self.log_pos_weight)


class ScaleStats(BaseModel):
    """The distribution of the scores at one scale."""

    mean: float
    std: float


class SubmissionSummary(BaseModel):
    """The JSON file beside a submission."""

    run: str
    scale: Scale
    """Of the scores that were written."""
    n_rows: int
    predictions: dict[Scale, ScaleStats]
    metrics: dict[str, Metrics] = {}
    """Estimated by the run, by the labels, and the best possible, where labels are known."""


def read_summary(path: Path) -> SubmissionSummary:
    """The JSON file beside a submission.

    Raises:
        InputError: when it is missing or something else.
    """
    return validate(SubmissionSummary, read_json(path), str(path))


@dataclass(frozen=True)
class Sample:
    """A sample submission."""

    path: Path
    id_name: str
    label_name: str
    ids: pa.Array
    """[n] text."""


def read_sample(path: Path) -> Sample:
    """Header and ids of a sample submission.

    Raises:
        InputError: when it is not a CSV file of two columns, or repeats an id.
    """
    try:
        lines = pa_csv.ParseOptions(newlines_in_values=True)
        header = pa_csv.open_csv(path, parse_options=lines).schema.names
        if len(header) != 2:
            raise InputError(f"{path} has {len(header)} columns: a sample submission has two, the id and the score")
        options = pa_csv.ConvertOptions(column_types={header[0]: pa.string()}, include_columns=header[:1])
        ids = pa_csv.read_csv(path, parse_options=lines, convert_options=options)[header[0]].combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}): correct --sample") from error
    if pc.count_distinct(ids).as_py() != len(ids):
        raise InputError(f"{path} repeats an id of column {header[0]!r}: every row needs its own")
    return Sample(path, header[0], header[1], ids)


@dataclass(frozen=True)
class Labels:
    """What is known of the rows, in their order in the files."""

    label: np.ndarray
    p: np.ndarray | None
    """[n] true probabilities, where the file has them."""


def read_labels(path: Path, schema: Schema, n_rows: int, read_ids: Callable[[], pa.Array]) -> Labels:
    """Labels by row number (columns `row_in_split` and, if the file has rows of several partitions, `split`), or by id.

    Args:
        path: a parquet file.
        schema: names the label and the id.
        n_rows: rows to score.
        read_ids: their ids as text.

    Raises:
        InputError: when the file does not hold exactly the rows to score.
    """
    arrow = open_parquet(path).schema_arrow.names
    if schema.label not in arrow:
        raise InputError(f"{path} has no label column {schema.label!r}: it cannot be measured by")
    row_column = next((name for name in ("row_in_split", "row_id") if name in arrow), None)
    names = ("split", row_column, schema.id, schema.label, "p")
    wanted = list(dict.fromkeys(name for name in names if name is not None and name in arrow))
    table = pq.read_table(path, columns=wanted)
    if "split" in arrow:
        table = table.filter(pc.equal(pc.cast(table["split"], pa.string()), "test"))
    if (name := schema.id) is not None and name in arrow:
        place = pc.index_in(read_ids(), value_set=_text(table[name]))
        order = np.full(n_rows, -1) if place.null_count else place.to_numpy()
    elif row_column is not None:
        number = _numbers(table, row_column, path)
        order = np.argsort(number, kind="stable")
        order = order if np.array_equal(number[order], np.arange(n_rows)) else np.full(n_rows, -1)
    else:
        raise InputError(f"{path} has neither column {schema.id!r} nor 'row_in_split': its rows cannot be told apart")
    if np.any(order < 0):
        raise InputError(f"{path} does not hold one row for each of the {n_rows:,} rows to score: it is of other data")
    table = table.take(pa.array(order))
    label = _numbers(table, schema.label, path)
    if not np.isin(label, (0, 1)).all():
        raise InputError(f"{path}: label column {schema.label!r} holds something else than 0 and 1")
    p = _numbers(table, "p", path) if "p" in arrow else None
    if p is not None and not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"{path}: column 'p' holds something else than probabilities")
    return Labels(label, p)


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """[n] float64, NaN where null."""
    try:
        return pc.cast(table[name], pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: column {name!r} is {table[name].type}, where numbers are needed") from error


def _text(column: pa.ChunkedArray) -> pa.Array:
    return pc.cast(column.combine_chunks(), pa.string())


class Writer:
    """Writes scores as they come, or in the order of a sample once all are there.

    Args:
        path: the CSV file.
        names: of its two columns.
        sample: whose order is wanted, if not that of the rows.
        scale: of the scores.
        log_pos_weight: what takes a natural logit to the balanced one.
    """

    def __init__(
        self, path: Path, names: tuple[str, str], sample: Sample | None, scale: Scale, log_pos_weight: float
    ) -> None:
        self._sample, self._shift = sample, log_pos_weight if scale == "balanced" else 0.0
        self._schema = pa.schema([(names[0], pa.string()), (names[1], pa.float64())])
        options = pa_csv.WriteOptions(quoting_style="needed", quoting_header="none")
        self._csv = pa_csv.CSVWriter(path, self._schema, write_options=options)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._csv.close()

    def add(self, ids: pa.Array, logit: np.ndarray) -> None:
        """Appends rows."""
        if self._sample is None:
            self._write(ids, logit)

    def finish(self, scored: ScoredRows) -> None:
        """Writes what waits for all rows.

        Raises:
            InputError: when the sample's ids are not those of the rows.
        """
        if self._sample is None:
            return
        hashes, ids = np.concatenate(scored.hashes), self._sample.ids
        wanted, order = hash_ids(ids), np.argsort(hashes)
        place = np.searchsorted(hashes[order], wanted).clip(max=len(hashes) - 1)
        rows = order[place]
        if np.any(hashes[rows] != wanted):
            name = ids[int(np.flatnonzero(hashes[rows] != wanted)[0])]
            raise InputError(f"{self._sample.path}: id {name} is not among the rows to score")
        if len(ids) != len(hashes):
            raise InputError(f"{self._sample.path} has {len(ids):,} ids, and there are {len(hashes):,} rows to score")
        self._write(ids, np.concatenate(scored.natural)[rows])

    def _write(self, ids: pa.Array, logit: np.ndarray) -> None:
        self._csv.write(pa.table([ids, probability(logit + self._shift)], schema=self._schema))


def check_unique(scored: ScoredRows, origin: str) -> None:
    """Refuses rows that share an id."""
    hashes = np.sort(np.concatenate(scored.hashes))
    if repeated := int(np.sum(hashes[1:] == hashes[:-1])):
        raise InputError(f"{origin}: {repeated} rows share their id with another: make ids unique")
