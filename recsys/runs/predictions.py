"""Predictions of rows that the models were not trained on: in memory, of a finished run, and joined by row id.

Shapes: N rows of a data set, S seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.logits import LogitLink, Logits
from recsys.evaluation.metrics import Metrics, measure
from recsys.runs.layout import METRICS_FILE, OOF_FILE
from recsys.runs.metrics import read_metrics
from recsys.runs.oof import OofColumns, read_oof
from recsys.system.files import is_done
from recsys.system.seal import verify


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a fitted model, or of a whole run, for rows that it was not fitted to."""

    name: str
    """The name of the fold, the partition or the run."""
    row: np.ndarray
    """[N] int64 row numbers in the prepared data set, or positions in the row ids of a run."""
    fold: np.ndarray
    """[N] str: the fold or partition that each row belongs to."""
    label: np.ndarray
    """[N] 0 / 1."""
    logits: Logits
    """The reported predictions: the means over seeds of `natural_by_seed`."""
    raw_by_seed: np.ndarray
    """[N, S] natural logits before calibration, one column for each seed."""
    natural_by_seed: np.ndarray
    """[N, S] calibrated natural logits, one column for each seed; the raw ones without calibration."""
    weight: np.ndarray | None = None
    """[N] float32 weights of the rows; None if they have none."""
    user: np.ndarray | None = None
    """[N] int32 codes of the rows' users, -1 for null; None if the data names no user."""
    day: np.ndarray | None = None
    """[N] int16 days in the order of time, -1 for null; None if the data names no day."""
    is_known: np.ndarray | None = None
    """[N] whether the row's user has a row that the model was fitted to; None if the data names no user."""

    @classmethod
    def of_fold(
        cls,
        name: str,
        row: np.ndarray,
        label: np.ndarray,
        logits: Logits,
        weight: np.ndarray | None = None,
        user: np.ndarray | None = None,
        day: np.ndarray | None = None,
        is_known: np.ndarray | None = None,
    ) -> "Predictions":
        """Builds the uncalibrated predictions of one fold or partition by one seed."""
        raw_by_seed = logits.natural[:, None]
        fold = np.full(len(row), name)
        return cls(name, row, fold, label, logits, raw_by_seed, raw_by_seed, weight, user, day, is_known)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, positions: np.ndarray) -> "Predictions":
        """Selects rows by [m] positions, in their order."""
        optional = (self.weight, self.user, self.day, self.is_known)
        return Predictions(
            self.name,
            self.row[positions],
            self.fold[positions],
            self.label[positions],
            self.logits.take(positions),
            self.raw_by_seed[positions],
            self.natural_by_seed[positions],
            *(None if column is None else column[positions] for column in optional),
        )

    @property
    def raw(self) -> Logits:
        """The predictions without calibration: the means over seeds of `raw_by_seed`."""
        return self.logits.with_natural(self.raw_by_seed.mean(axis=1))

    def by_seed(self) -> list[Logits]:
        """The calibrated logits of each seed."""
        return [self.logits.with_natural(natural) for natural in self.natural_by_seed.T]

    def calibrated(self, natural_by_seed: np.ndarray) -> "Predictions":
        """Replaces the reported predictions by [N, S] calibrated natural logits."""
        return replace(
            self, natural_by_seed=natural_by_seed, logits=self.logits.with_natural(natural_by_seed.mean(axis=1))
        )

    @property
    def held_out(self) -> HeldOutRows:
        """The rows and raw logits that calibrators are fitted to."""
        return HeldOutRows(self.raw_by_seed, self.logits, self.label, self.fold, self.weight, self.user, self.day)

    def oof_columns(self, row_ids: pa.Array) -> OofColumns:
        """The columns of oof.csv.

        Args:
            row_ids: [N] ids of the rows.
        """
        by_seed = (self.raw_by_seed, self.natural_by_seed)
        optional = (self.weight, self.user, self.day, self.is_known)
        return OofColumns(row_ids, self.fold, self.label, *by_seed, *optional)

    def measure(self) -> Metrics:
        """Computes all metrics of the rows."""
        return measure(self.label, self.logits, self.weight, self.user)

    @property
    def has_both_classes(self) -> bool:
        """Whether rows of both classes count: have weights above zero."""
        return len(np.unique(self._counted_label)) == 2

    @property
    def has_positive(self) -> bool:
        """Whether a positive row counts."""
        return bool(self._counted_label.any())

    @property
    def _counted_label(self) -> np.ndarray:
        return self.label if self.weight is None else self.label[self.weight > 0]

    @property
    def weight_in_full_log(self) -> np.ndarray | None:
        """See `Logits.weight_in_full_log`."""
        return self.logits.weight_in_full_log(self.label, self.weight)


def join(folds: Sequence[Predictions], name: str = "overall") -> Predictions:
    """Concatenates predictions; an empty sequence gives no rows."""
    if not folds:
        empty = np.zeros(0, np.float32)
        return Predictions.of_fold(name, empty.astype(np.int64), empty, Logits.join([]))
    return Predictions(
        name=name,
        row=np.concatenate([fold.row for fold in folds]),
        fold=np.concatenate([fold.fold for fold in folds]),
        label=np.concatenate([fold.label for fold in folds]),
        logits=Logits.join([fold.logits for fold in folds]),
        raw_by_seed=np.concatenate([fold.raw_by_seed for fold in folds]),
        natural_by_seed=np.concatenate([fold.natural_by_seed for fold in folds]),
        weight=_join([fold.weight for fold in folds]),
        user=_join([fold.user for fold in folds]),
        day=_join([fold.day for fold in folds]),
        is_known=_join([fold.is_known for fold in folds]),
    )


def _join(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def join_seeds(seeds: Sequence[Predictions]) -> Predictions:
    """The predictions of the same rows by fits with other seeds, which are reported as the means of their logits."""
    first, raw = seeds[0], np.concatenate([one.raw_by_seed for one in seeds], axis=1)
    assert all(np.array_equal(first.row, one.row) for one in seeds), "seeds score the same rows"
    return replace(first, raw_by_seed=raw).calibrated(raw)


def by_fold(predictions: Predictions) -> list[Predictions]:
    """Splits predictions by fold, in the order of the folds' names."""
    names = np.unique(predictions.fold)
    parts = [predictions.take(np.flatnonzero(predictions.fold == name)) for name in names]
    return [replace(part, name=str(name)) for name, part in zip(names, parts, strict=True)]


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """The reported predictions of a finished run, with the ids of their rows."""

    row_id: pa.Array
    """[n] text."""
    predictions: Predictions

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.predictions.name

    @property
    def label(self) -> np.ndarray:
        """[n] 0 / 1."""
        return self.predictions.label

    @property
    def fold(self) -> np.ndarray:
        """[n] str."""
        return self.predictions.fold

    @property
    def logits(self) -> Logits:
        """The logits of the [n] rows."""
        return self.predictions.logits

    @property
    def weight(self) -> np.ndarray | None:
        """[n] weights of the rows; None if they have none."""
        return self.predictions.weight

    def take(self, positions: np.ndarray) -> "RunPredictions":
        """Selects rows by [m] positions, in their order."""
        return RunPredictions(self.row_id.take(pa.array(positions)), self.predictions.take(positions))


def read_predictions(run: Path) -> RunPredictions:
    """Reads the reported predictions of a finished run.

    Raises:
        InputError: if the folder is not a finished run, or its oof.csv is damaged.
    """
    if not is_done(run) or not (run / OOF_FILE).is_file():
        raise InputError(f"{run} is not a finished run: pass the run folder that python -m pipelines.rank prints")
    verify(run, OOF_FILE, METRICS_FILE)
    oof, links = read_oof(run / OOF_FILE), read_metrics(run).links
    encoded = pa.array(oof.fold).dictionary_encode()
    codes, names = np.asarray(encoded.indices), encoded.dictionary.to_pylist()
    link_by_code = [_link_of_fold(name, links, run) for name in names]
    log_pos_weight = np.array([link.log_pos_weight for link in link_by_code], np.float64)[codes]
    log_sampling_rate = next(iter(links.values())).log_sampling_rate if links else 0.0
    raw_by_seed, natural_by_seed = oof.raw_by_seed, oof.natural_by_seed
    if oof.is_earlier_version:
        natural = np.empty(len(codes))
        for code, link in enumerate(link_by_code):
            natural[codes == code] = link.logits(oof.natural_by_seed[codes == code, 0]).natural
        raw_by_seed = natural_by_seed = natural[:, None]
    predictions = Predictions(
        name=run.name,
        row=np.arange(len(codes)),
        fold=oof.fold,
        label=oof.label,
        logits=Logits(natural_by_seed.mean(axis=1), log_pos_weight, log_sampling_rate),
        raw_by_seed=raw_by_seed,
        natural_by_seed=natural_by_seed,
        weight=oof.weight,
        user=oof.user,
        day=oof.day,
        is_known=oof.is_known,
    )
    return RunPredictions(oof.row_id, predictions)


def _link_of_fold(fold: str, links: dict[str, LogitLink], run: Path) -> LogitLink:
    """The mapping from the logits of a fold to those of p and q."""
    fit = next((name for name in (fold, f"fold_{fold}", "full") if name in links), None)
    if fit is None:
        raise InputError(f"{run / METRICS_FILE} has no fit for fold {fold!r} of oof.csv: they are of different runs")
    return links[fit]


def join_predictions(runs: Sequence[RunPredictions]) -> list[RunPredictions]:
    """Restricts runs to the rows that all of them have, in the order of the first run.

    Raises:
        InputError: if they share no row, or differ in a label.
    """
    first = runs[0]
    positions = [pc.index_in(first.row_id, value_set=run.row_id) for run in runs]
    is_shared = np.logical_and.reduce([np.asarray(pc.is_valid(position)) for position in positions])
    shared = pa.array(np.flatnonzero(is_shared))
    if len(shared) == 0:
        raise InputError(f"{', '.join(run.name for run in runs)} share no row: they use different data or splits")
    joined = [run.take(position.take(shared).to_numpy()) for run, position in zip(runs, positions, strict=True)]
    for run in joined[1:]:
        if not np.array_equal(joined[0].label, run.label):
            raise InputError(
                f"{first.name} and {run.name} have different labels for the same row ids: compare runs of one data "
                "set, prepared with the same schema.id (without one, rows are numbered)"
            )
        if not _have_equal_weights(joined[0], run):
            raise InputError(
                f"{first.name} and {run.name} have different weights or sampling rates for the same rows: compare runs "
                "of one data set"
            )
    return joined


def _have_equal_weights(first: RunPredictions, second: RunPredictions) -> bool:
    has_equal_rates = np.isclose(first.logits.log_sampling_rate, second.logits.log_sampling_rate)
    if (first.weight is None) != (second.weight is None) or not has_equal_rates:
        return False
    return first.weight is None or second.weight is None or np.array_equal(first.weight, second.weight)
