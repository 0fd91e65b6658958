"""The out-of-fold predictions of finished runs, read back and joined by row id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.errors import InputError
from recsys.evaluation.comparison import Scores
from recsys.evaluation.logits import LogitLink
from recsys.runs.folder import METRICS_FILE, OOF_FILE
from recsys.system.files import is_done, read_json
from recsys.system.seal import verify

_TYPES = {"row_id": pa.string(), "fold": pa.string(), "label": pa.int8(), "logit": pa.float32(), "p": pa.float64()}


@dataclass(frozen=True)
class Predictions:
    """What a run said of rows that its models had not seen."""

    name: str
    row_id: pa.Array
    """[n] text."""
    fold: np.ndarray
    """[n] str: the part each row is of."""
    label: np.ndarray
    """[n] int8."""
    logit: np.ndarray
    """[n] float32, as the models gave it."""
    scores: Scores

    def take(self, places: np.ndarray) -> "Predictions":
        """Some of the rows, in the order of [m] places."""
        return Predictions(
            self.name,
            self.row_id.take(pa.array(places)),
            self.fold[places],
            self.label[places],
            self.logit[places],
            Scores(self.scores.natural_logit[places], self.scores.balanced_logit[places]),
        )


def read_predictions(run: Path) -> Predictions:
    """The reported predictions of a finished run.

    Raises:
        InputError: when the folder is no finished run, or its oof.csv is not whole.
    """
    if not is_done(run) or not (run / OOF_FILE).is_file():
        raise InputError(
            f"{run} is not a finished run: give the folder that python -m pipelines.rank printed at its end"
        )
    verify(run, OOF_FILE, METRICS_FILE)
    options = pa_csv.ConvertOptions(column_types=_TYPES, include_columns=list(_TYPES), strings_can_be_null=False)
    lines = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        table = pa_csv.read_csv(run / OOF_FILE, parse_options=lines, convert_options=options).combine_chunks()
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{run / OOF_FILE} is not readable ({error}): run it again under another --out") from error
    logit = table["logit"].to_numpy().astype(np.float32)
    fold = table["fold"].combine_chunks().dictionary_encode()
    natural, balanced = np.empty(len(logit)), np.empty(len(logit))
    fits = read_json(run / METRICS_FILE)["train"]["fits"]
    codes, names = np.asarray(fold.indices), fold.dictionary.to_pylist()
    for code, name in enumerate(names):
        mine, link = codes == code, _link_of(name, fits, run)
        natural[mine], balanced[mine] = link.natural_logit(logit[mine]), link.balanced_logit(logit[mine])
    return Predictions(
        name=run.name,
        row_id=table["row_id"].combine_chunks(),
        fold=np.array(names)[codes],
        label=table["label"].to_numpy(),
        logit=logit,
        scores=Scores(natural, balanced),
    )


def _link_of(part: str, fits: dict[str, Any], run: Path) -> LogitLink:
    """How the logits of a part relate to p and q."""
    fit = next((name for name in (part, f"fold_{part}", "full") if name in fits), None)
    if fit is None:
        raise InputError(f"{run / METRICS_FILE} knows no fit for fold {part!r} of its oof.csv: it is of another run")
    return LogitLink(**fits[fit]["link"])


def join_predictions(runs: Sequence[Predictions]) -> list[Predictions]:
    """The same runs over the rows that all of them have, in the order of the first.

    Raises:
        InputError: when they share no row, or disagree on a label.
    """
    first = runs[0]
    place = [pc.index_in(first.row_id, value_set=other.row_id) for other in runs]
    shared = np.flatnonzero(np.logical_and.reduce([np.asarray(pc.is_valid(found)) for found in place]))
    if len(shared) == 0:
        raise InputError(f"{', '.join(run.name for run in runs)} share no row: they are of different data or splits")
    joined = [run.take(found.take(pa.array(shared)).to_numpy()) for run, found in zip(runs, place, strict=True)]
    for other in joined[1:]:
        if not np.array_equal(joined[0].label, other.label):
            raise InputError(
                f"{first.name} and {other.name} disagree on labels of the same rows: compare runs of one data set"
            )
    return joined
