"""Predictions of rows that the models were not trained on: in memory, in oof.csv, and joined by row id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.errors import InputError
from recsys.evaluation.logits import LogitLink, Logits
from recsys.evaluation.metrics import Metrics, measure
from recsys.runs.layout import METRICS_FILE, OOF_FILE
from recsys.runs.metrics import read_metrics
from recsys.system.files import is_done
from recsys.system.seal import verify

_TYPES = {"row_id": pa.string(), "fold": pa.string(), "label": pa.int8(), "logit": pa.float32()}
"""The columns of oof.csv that are read; `p` is computed from the logit."""
_WEIGHT = "weight"
"""The column of oof.csv with the weights of rows, if they have any."""
_OPTIONAL_TYPES = {_WEIGHT: pa.float32(), "user": pa.int32(), "day": pa.int32()}
"""The columns of oof.csv that not every data set has."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a fitted model, or of a whole run, for rows that it was not fitted to."""

    name: str
    """The name of the fold, the partition or the run."""
    row: np.ndarray
    """[n] int64 row numbers in the prepared data set, or positions in the row ids of a run."""
    fold: np.ndarray
    """[n] str: the fold or partition that each row belongs to."""
    label: np.ndarray
    """[n] 0 / 1."""
    model_logit: np.ndarray
    """[n] float32 output of the model."""
    logits: Logits
    weight: np.ndarray | None = None
    """[n] float32 weights of the rows; None if they have none."""
    user: np.ndarray | None = None
    """[n] integers, -1 for a row without a user; None if users are unknown."""
    day: np.ndarray | None = None
    """[n] integers, -1 for a row without a day; None if days are unknown."""

    @classmethod
    def of_fold(
        cls,
        name: str,
        row: np.ndarray,
        label: np.ndarray,
        model_logit: np.ndarray,
        logits: Logits,
        weight: np.ndarray | None = None,
    ) -> "Predictions":
        """Builds the predictions of one fold or partition."""
        return cls(name, row, np.full(len(row), name), label, model_logit, logits, weight)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, positions: np.ndarray) -> "Predictions":
        """Selects rows by [m] positions, in their order."""
        return Predictions(
            self.name,
            self.row[positions],
            self.fold[positions],
            self.label[positions],
            self.model_logit[positions],
            self.logits.take(positions),
            *(None if column is None else column[positions] for column in (self.weight, self.user, self.day)),
        )

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
        return Predictions.of_fold(name, empty.astype(np.int64), empty, empty, Logits.join([]))
    return Predictions(
        name=name,
        row=np.concatenate([fold.row for fold in folds]),
        fold=np.concatenate([fold.fold for fold in folds]),
        label=np.concatenate([fold.label for fold in folds]),
        model_logit=np.concatenate([fold.model_logit for fold in folds]),
        logits=Logits.join([fold.logits for fold in folds]),
        weight=_join_columns([fold.weight for fold in folds]),
        user=_join_columns([fold.user for fold in folds]),
        day=_join_columns([fold.day for fold in folds]),
    )


def _join_columns(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if present else None


def by_fold(label: np.ndarray, fold: np.ndarray, logits: Logits, weight: np.ndarray | None = None) -> list[Predictions]:
    """Splits an ensemble's predictions by fold; model logits are the natural logits, rows are positions in `label`."""
    predictions = []
    for name in np.unique(fold):
        row = np.flatnonzero(fold == name)
        fold_logits = logits.take(row)
        model_logit = fold_logits.natural.astype(np.float32)
        fold_weight = None if weight is None else weight[row]
        predictions.append(Predictions.of_fold(str(name), row, label[row], model_logit, fold_logits, fold_weight))
    return predictions


def write_oof(path: Path, folds: Sequence[Predictions], row_ids: pa.Array) -> None:
    """Writes oof.csv: row_id, fold, label, logit (output of the model), p (at the natural base rate), weight if any."""
    joined = join(folds)
    columns = {
        "row_id": row_ids,
        "fold": pa.array(joined.fold, pa.string()),
        "label": joined.label.astype(np.int8),
        "logit": joined.model_logit,
        "p": joined.logits.p,
    }
    table = pa.table(columns if joined.weight is None else columns | {_WEIGHT: joined.weight})
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="needed", quoting_header="none"))


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
    names = [*_TYPES, *_optional_columns(run / OOF_FILE)]
    types = _TYPES | _OPTIONAL_TYPES
    convert = pa_csv.ConvertOptions(column_types=types, include_columns=names, strings_can_be_null=False)
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        table = pa_csv.read_csv(run / OOF_FILE, parse_options=parse, convert_options=convert).combine_chunks()
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{run / OOF_FILE} is not readable ({error}): run it again with another --out") from error
    model_logit = table["logit"].to_numpy().astype(np.float32)
    encoded = table["fold"].combine_chunks().dictionary_encode()
    codes, folds = np.asarray(encoded.indices), encoded.dictionary.to_pylist()
    natural, log_pos_weight = np.empty(len(model_logit)), np.empty(len(model_logit))
    links = read_metrics(run).links
    for code, name in enumerate(folds):
        in_fold = codes == code
        logits = _link_of_fold(name, links, run).logits(model_logit[in_fold])
        natural[in_fold], log_pos_weight[in_fold] = logits.natural, logits.log_pos_weight
    log_sampling_rate = next(iter(links.values())).log_sampling_rate if links else 0.0
    predictions = Predictions(
        name=run.name,
        row=np.arange(len(model_logit)),
        fold=np.array(folds)[codes],
        label=table["label"].to_numpy(),
        model_logit=model_logit,
        logits=Logits(natural, log_pos_weight, log_sampling_rate),
        **{name: table[name].to_numpy() for name in names if name in _OPTIONAL_TYPES},
    )
    return RunPredictions(table["row_id"].combine_chunks(), predictions)


def _optional_columns(oof: Path) -> list[str]:
    with oof.open(encoding="utf-8") as file:
        return [name for name in file.readline().rstrip().split(",") if name in _OPTIONAL_TYPES]


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
                f"{first.name} and {run.name} have different labels for the same rows: compare runs of one data set"
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
