"""Submissions: writes scores in the required order with unique ids, and reads labels to evaluate them."""

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
    """Collects the scores of all rows in file order; ids are stored as hashes to save memory."""

    log_pos_weight: float
    """Balanced logit - natural logit."""
    hashes: list[np.ndarray] = field(default_factory=list)
    """Hashes of the ids, one array per block."""
    natural: list[np.ndarray] = field(default_factory=list)
    """Natural logits, one array per block."""

    def add(self, ids: pa.Array, natural: np.ndarray) -> None:
        """Appends rows.

        Raises:
            RuntimeError: if a logit is not finite.
        """
        if not np.isfinite(natural).all():
            raise RuntimeError(f"row {ids[int(np.flatnonzero(~np.isfinite(natural))[0])]} has no finite score")
        self.hashes.append(hash_ids(ids))
        self.natural.append(natural)

    @property
    def logits(self) -> Logits:
        """The logits of all rows."""
        return Logits.of_one_fit(np.concatenate(self.natural), self.log_pos_weight)


class ScaleStats(BaseModel):
    """Mean and standard deviation of the scores at one scale."""

    mean: float
    std: float


class SubmissionSummary(BaseModel):
    """The JSON file beside a submission."""

    run: str
    scale: Scale
    """The scale of the written scores."""
    n_rows: int
    predictions: dict[Scale, ScaleStats]
    metrics: dict[str, Metrics] = {}
    """If labels are known: as estimated by the run, on the labels, and with the true probabilities."""


def read_summary(path: Path) -> SubmissionSummary:
    """Reads the JSON file beside a submission.

    Raises:
        InputError: if the file is missing or has another format.
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
    """Reads the header and the ids of a sample submission.

    Raises:
        InputError: if it is not a CSV file with two columns, or repeats an id.
    """
    try:
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        header = pa_csv.open_csv(path, parse_options=parse).schema.names
        if len(header) != 2:
            raise InputError(
                f"{path} has {len(header)} columns: a sample submission must have two, the id and the score"
            )
        convert = pa_csv.ConvertOptions(column_types={header[0]: pa.string()}, include_columns=header[:1])
        ids = pa_csv.read_csv(path, parse_options=parse, convert_options=convert)[header[0]].combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}): correct --sample") from error
    if pc.count_distinct(ids).as_py() != len(ids):
        raise InputError(f"{path} repeats an id in column {header[0]!r}: ids must be unique")
    return Sample(path, header[0], header[1], ids)


@dataclass(frozen=True)
class Labels:
    """The labels of the rows to score, in file order."""

    label: np.ndarray
    p: np.ndarray | None
    """[n] true probabilities; None if the file has none."""


def read_labels(path: Path, schema: Schema, n_rows: int, read_ids: Callable[[], pa.Array]) -> Labels:
    """Reads labels by id, or by row number (column `row_in_split`; `split` if the file has several partitions).

    Args:
        path: the parquet file with labels.
        schema: the schema, with the names of the label and the id column.
        n_rows: number of rows to score.
        read_ids: returns the ids of the rows to score, as text.

    Raises:
        InputError: if the file does not have exactly the rows to score.
    """
    file_columns = open_parquet(path).schema_arrow.names
    if schema.label not in file_columns:
        raise InputError(f"{path} has no label column {schema.label!r}: pass a file with labels to --labels")
    row_column = next((name for name in ("row_in_split", "row_id") if name in file_columns), None)
    names = ("split", row_column, schema.id, schema.label, "p")
    columns = list(dict.fromkeys(name for name in names if name is not None and name in file_columns))
    table = pq.read_table(path, columns=columns)
    if "split" in file_columns:
        table = table.filter(pc.equal(pc.cast(table["split"], pa.string()), "test"))
    if (name := schema.id) is not None and name in file_columns:
        positions = pc.index_in(read_ids(), value_set=_text(table[name]))
        order = np.full(n_rows, -1) if positions.null_count else positions.to_numpy()
    elif row_column is not None:
        row_numbers = _numbers(table, row_column, path)
        order = np.argsort(row_numbers, kind="stable")
        order = order if np.array_equal(row_numbers[order], np.arange(n_rows)) else np.full(n_rows, -1)
    else:
        raise InputError(f"{path} has neither column {schema.id!r} nor 'row_in_split': its rows cannot be matched")
    if np.any(order < 0):
        raise InputError(
            f"{path} does not have exactly one row for each of the {n_rows:,} rows to score: pass their labels"
        )
    table = table.take(pa.array(order))
    label = _numbers(table, schema.label, path)
    if not np.isin(label, (0, 1)).all():
        raise InputError(f"{path}: label column {schema.label!r} must contain only 0 and 1")
    p = _numbers(table, "p", path) if "p" in file_columns else None
    if p is not None and not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"{path}: column 'p' must contain probabilities in [0, 1]")
    return Labels(label, p)


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """[n] float64 values of a column, NaN for nulls."""
    try:
        return pc.cast(table[name], pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: column {name!r} must be numeric, got {table[name].type}") from error


def _text(column: pa.ChunkedArray) -> pa.Array:
    return pc.cast(column.combine_chunks(), pa.string())


class SubmissionWriter:
    """Writes scores block by block, or all scores at the end in the order of a sample submission.

    Args:
        path: the CSV file to write.
        names: names of its two columns.
        sample: defines the order of the rows; None keeps the file order.
        scale: the scale of the written scores.
        log_pos_weight: balanced logit - natural logit.
    """

    def __init__(
        self, path: Path, names: tuple[str, str], sample: Sample | None, scale: Scale, log_pos_weight: float
    ) -> None:
        self._sample, self._shift = sample, log_pos_weight if scale == "balanced" else 0.0
        self._schema = pa.schema([(names[0], pa.string()), (names[1], pa.float64())])
        options = pa_csv.WriteOptions(quoting_style="needed", quoting_header="none")
        self._csv = pa_csv.CSVWriter(path, self._schema, write_options=options)

    def __enter__(self) -> "SubmissionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._csv.close()

    def add(self, ids: pa.Array, logit: np.ndarray) -> None:
        """Writes a block of rows, unless a sample defines the order."""
        if self._sample is None:
            self._write(ids, logit)

    def finish(self, scored: ScoredRows) -> None:
        """Writes all rows in the order of the sample, if any.

        Raises:
            InputError: if the ids of the sample and of the rows differ.
        """
        if self._sample is None:
            return
        hashes, ids = np.concatenate(scored.hashes), self._sample.ids
        sample_hashes, order = hash_ids(ids), np.argsort(hashes)
        positions = np.searchsorted(hashes[order], sample_hashes).clip(max=len(hashes) - 1)
        rows = order[positions]
        if np.any(hashes[rows] != sample_hashes):
            unknown_id = ids[int(np.flatnonzero(hashes[rows] != sample_hashes)[0])]
            raise InputError(f"{self._sample.path}: id {unknown_id} is not among the rows to score")
        if len(ids) != len(hashes):
            raise InputError(
                f"{self._sample.path} has {len(ids):,} ids, expected one for each of {len(hashes):,} rows to score"
            )
        self._write(ids, np.concatenate(scored.natural)[rows])

    def _write(self, ids: pa.Array, logit: np.ndarray) -> None:
        self._csv.write(pa.table([ids, probability(logit + self._shift)], schema=self._schema))


def check_unique(scored: ScoredRows, origin: str) -> None:
    """Raises InputError if rows share an id."""
    hashes = np.sort(np.concatenate(scored.hashes))
    if repeated := int(np.sum(hashes[1:] == hashes[:-1])):
        raise InputError(f"{origin}: {repeated} rows share their id with another row: make ids unique")
