"""Submissions: writes scores in the required order, with unique ids."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from pydantic import BaseModel

from recsys.config import validate
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, probability
from recsys.evaluation.metrics import Metrics
from recsys.runs.metrics import read_metrics
from recsys.runs.sample import Sample
from recsys.system.files import read_json
from recsys.system.hashing import hash_ids

Scale = Literal["balanced", "natural"]
ChosenScale = Literal["auto", "natural", "balanced"]
SCALE_HELP = (
    "natural: p, the click probability; balanced: q, that of equally frequent classes, which minimizes WLL; auto: q "
    "for runs that are chosen by WLL or the Toss score, otherwise p."
)
_OF_BALANCED_CLASSES = ("wll", "toss_score")


def resolve_scale(chosen: ChosenScale, run: Path) -> Scale:
    """The scale of a run's scores: `auto` follows the metric that the run's config chooses by."""
    if chosen != "auto":
        return chosen
    return "balanced" if read_metrics(run).named_metrics[0] in _OF_BALANCED_CLASSES else "natural"


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
            InputError: if a logit is not finite.
        """
        if not np.isfinite(natural).all():
            first_id = ids[int(np.flatnonzero(~np.isfinite(natural))[0])]
            raise InputError(
                f"the row with the id {first_id.as_py()!r} has no finite score: check it for extreme values, or train "
                "the run again with a lower learning rate"
            )
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
        quoting_header = "needed" if any(mark in name for name in names for mark in ',"\r\n') else "none"
        options = pa_csv.WriteOptions(quoting_style="needed", quoting_header=quoting_header)
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
