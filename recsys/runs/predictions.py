"""Predictions of rows that the models had not seen: in memory, in oof.csv, and joined by row id."""

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
"""The columns of oof.csv that are read back; its `p` follows from the logit."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a fitted model, or a whole run, predicted for rows that it was not fitted to."""

    name: str
    """Of the fold, the partition or the run."""
    row: np.ndarray
    """[n] int64 row numbers in the prepared data set, or positions among the ids of a run."""
    fold: np.ndarray
    """[n] str: the fold or partition that each row belongs to."""
    label: np.ndarray
    """[n] 0 / 1."""
    model_logit: np.ndarray
    """[n] float32, as the model gives it."""
    logits: Logits

    @classmethod
    def of_fold(
        cls, name: str, row: np.ndarray, label: np.ndarray, model_logit: np.ndarray, logits: Logits
    ) -> "Predictions":
        """The predictions of one fold or partition."""
        return cls(name, row, np.full(len(row), name), label, model_logit, logits)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, positions: np.ndarray) -> "Predictions":
        """Some of the rows, in the order of [m] positions."""
        return Predictions(
            self.name,
            self.row[positions],
            self.fold[positions],
            self.label[positions],
            self.model_logit[positions],
            self.logits.take(positions),
        )

    def measure(self) -> Metrics:
        """All metrics of these rows."""
        return measure(self.label, self.logits)


def join(parts: Sequence[Predictions], name: str = "overall") -> Predictions:
    """Predictions end to end; of no part, no rows."""
    if not parts:
        empty = np.zeros(0, np.float32)
        return Predictions.of_fold(name, empty.astype(np.int64), empty, empty, Logits.join([]))
    return Predictions(
        name=name,
        row=np.concatenate([part.row for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        model_logit=np.concatenate([part.model_logit for part in parts]),
        logits=Logits.join([part.logits for part in parts]),
    )


def by_fold(label: np.ndarray, fold: np.ndarray, logits: Logits) -> list[Predictions]:
    """Predictions without a model's own logits, such as an ensemble's, fold by fold; rows are positions in `label`."""
    parts = []
    for name in np.unique(fold):
        row = np.flatnonzero(fold == name)
        inside = logits.take(row)
        parts.append(Predictions.of_fold(str(name), row, label[row], inside.natural.astype(np.float32), inside))
    return parts


def write_oof(path: Path, parts: Sequence[Predictions], row_ids: pa.Array) -> None:
    """oof.csv: row_id, fold, label, logit (as the model gives it), p (at the natural base rate)."""
    whole = join(parts)
    table = pa.table(
        {
            "row_id": row_ids,
            "fold": pa.array(whole.fold, pa.string()),
            "label": whole.label.astype(np.int8),
            "logit": whole.model_logit,
            "p": whole.logits.p,
        }
    )
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="needed", quoting_header="none"))


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """The reported predictions of a finished run, with the ids of their rows."""

    row_id: pa.Array
    """[n] text."""
    predictions: Predictions

    @property
    def name(self) -> str:
        """Of the run."""
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
        """Of the [n] rows."""
        return self.predictions.logits

    def take(self, positions: np.ndarray) -> "RunPredictions":
        """Some of the rows, in the order of [m] positions."""
        return RunPredictions(self.row_id.take(pa.array(positions)), self.predictions.take(positions))


def read_predictions(run: Path) -> RunPredictions:
    """The reported predictions of a finished run.

    Raises:
        InputError: when the folder is no finished run, or its oof.csv is not whole.
    """
    if not is_done(run) or not (run / OOF_FILE).is_file():
        raise InputError(
            f"{run} is not a finished run: give the folder that python -m pipelines.rank printed at its end"
        )
    verify(run, OOF_FILE, METRICS_FILE)
    convert = pa_csv.ConvertOptions(column_types=_TYPES, include_columns=list(_TYPES), strings_can_be_null=False)
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        table = pa_csv.read_csv(run / OOF_FILE, parse_options=parse, convert_options=convert).combine_chunks()
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{run / OOF_FILE} is not readable ({error}): run it again under another --out") from error
    model_logit = table["logit"].to_numpy().astype(np.float32)
    encoded = table["fold"].combine_chunks().dictionary_encode()
    codes, names = np.asarray(encoded.indices), encoded.dictionary.to_pylist()
    natural, log_pos_weight = np.empty(len(model_logit)), np.empty(len(model_logit))
    links = read_metrics(run).links
    for code, name in enumerate(names):
        inside = codes == code
        logits = _link_of_fold(name, links, run).logits(model_logit[inside])
        natural[inside], log_pos_weight[inside] = logits.natural, logits.log_pos_weight
    predictions = Predictions(
        name=run.name,
        row=np.arange(len(model_logit)),
        fold=np.array(names)[codes],
        label=table["label"].to_numpy(),
        model_logit=model_logit,
        logits=Logits(natural, log_pos_weight),
    )
    return RunPredictions(table["row_id"].combine_chunks(), predictions)


def _link_of_fold(fold: str, links: dict[str, LogitLink], run: Path) -> LogitLink:
    """How the logits of a fold relate to p and q."""
    fit = next((name for name in (fold, f"fold_{fold}", "full") if name in links), None)
    if fit is None:
        raise InputError(f"{run / METRICS_FILE} knows no fit for fold {fold!r} of its oof.csv: it is of another run")
    return links[fit]


def join_predictions(runs: Sequence[RunPredictions]) -> list[RunPredictions]:
    """The same runs over the rows that all of them have, in the order of the first.

    Raises:
        InputError: when they share no row, or disagree on a label.
    """
    first = runs[0]
    positions = [pc.index_in(first.row_id, value_set=other.row_id) for other in runs]
    is_shared = np.logical_and.reduce([np.asarray(pc.is_valid(position)) for position in positions])
    shared = pa.array(np.flatnonzero(is_shared))
    if len(shared) == 0:
        raise InputError(f"{', '.join(run.name for run in runs)} share no row: they are of different data or splits")
    joined = [run.take(position.take(shared).to_numpy()) for run, position in zip(runs, positions, strict=True)]
    for other in joined[1:]:
        if not np.array_equal(joined[0].label, other.label):
            raise InputError(
                f"{first.name} and {other.name} disagree on labels of the same rows: compare runs of one data set"
            )
    return joined
