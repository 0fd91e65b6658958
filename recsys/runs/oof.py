"""oof.csv: the reported predictions of a run, one line for each row.

| column | content |
|---|---|
| row_id, fold, label | as text, as text, 0 or 1 |
| logit | the reported natural logit: calibrated, and the mean over seeds |
| p | the click probability of `logit` |
| raw_logit | the natural logit before calibration; with S seeds raw_logit_1 .. raw_logit_S |
| logit_1 .. logit_S | the calibrated natural logit of each seed, if there are several |
| weight, user, day, known_user | of the row, if the data has them |

Earlier versions wrote row_id, fold, label, the model's own output as `logit`, p and weight.

Shapes: N rows, S seeds.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys.errors import InputError
from recsys.evaluation.logits import probability

_RAW, _LOGIT = "raw_logit", "logit"
_TYPES = {"row_id": pa.string(), "fold": pa.string(), "label": pa.int8(), _LOGIT: pa.float64()}
_OPTIONAL = {"weight": pa.float32(), "user": pa.int32(), "day": pa.int16(), "known_user": pa.bool_()}


@dataclass(frozen=True, eq=False)
class OofColumns:
    """The columns of oof.csv."""

    row_id: pa.Array
    """[N] text."""
    fold: np.ndarray
    """[N] str."""
    label: np.ndarray
    """[N] 0 / 1."""
    raw_by_seed: np.ndarray
    """[N, S] natural logits before calibration."""
    natural_by_seed: np.ndarray
    """[N, S] calibrated natural logits; in a file of an earlier version the [N, 1] outputs of the model."""
    weight: np.ndarray | None = None
    user: np.ndarray | None = None
    day: np.ndarray | None = None
    is_known: np.ndarray | None = None
    is_earlier_version: bool = False


def write_oof(path: Path, columns: OofColumns) -> None:
    """Writes oof.csv; numbers have all of their digits, so that the file gives the metrics of the run."""
    n_seeds, logit = columns.raw_by_seed.shape[1], columns.natural_by_seed.mean(axis=1)
    values = {
        "row_id": columns.row_id,
        "fold": pa.array(columns.fold, pa.string()),
        "label": columns.label.astype(np.int8),
        _LOGIT: logit,
        "p": probability(logit),
    }
    values |= dict(zip(_by_seed(_RAW, n_seeds), columns.raw_by_seed.T, strict=True))
    if n_seeds > 1:
        values |= dict(zip(_by_seed(_LOGIT, n_seeds), columns.natural_by_seed.T, strict=True))
    optional = (columns.weight, columns.user, columns.day, columns.is_known)
    values |= {name: column for name, column in zip(_OPTIONAL, optional, strict=True) if column is not None}
    pa_csv.write_csv(pa.table(values), path, pa_csv.WriteOptions(quoting_style="needed", quoting_header="none"))


def read_oof(path: Path) -> OofColumns:
    """Reads oof.csv of this version or an earlier one.

    Raises:
        InputError: if the file is damaged.
    """
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip().split(",")
    n_seeds = sum(name.startswith(_RAW) for name in header)
    seed_columns = [*_by_seed(_RAW, n_seeds), *(_by_seed(_LOGIT, n_seeds) if n_seeds > 1 else [])]
    types = _TYPES | dict.fromkeys(seed_columns, pa.float64()) | _OPTIONAL
    names = [*_TYPES, *seed_columns, *(name for name in _OPTIONAL if name in header)]
    convert = pa_csv.ConvertOptions(column_types=types, include_columns=names, strings_can_be_null=False)
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        table = pa_csv.read_csv(path, parse_options=parse, convert_options=convert).combine_chunks()
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{path} is not readable ({error}): run it again with another --out") from error

    def matrix(columns: list[str]) -> np.ndarray:
        return np.stack([table[name].to_numpy() for name in columns], axis=1)

    natural_by_seed = matrix(_by_seed(_LOGIT, max(1, n_seeds)))
    folds = table["fold"].combine_chunks().dictionary_encode()
    return OofColumns(
        row_id=table["row_id"].combine_chunks(),
        fold=np.array(folds.dictionary.to_pylist(), dtype=str)[np.asarray(folds.indices)],
        label=table["label"].to_numpy(),
        raw_by_seed=matrix(_by_seed(_RAW, n_seeds)) if n_seeds else natural_by_seed,
        natural_by_seed=natural_by_seed,
        weight=table["weight"].to_numpy() if "weight" in names else None,
        user=table["user"].to_numpy() if "user" in names else None,
        day=table["day"].to_numpy() if "day" in names else None,
        is_known=np.asarray(table["known_user"].to_numpy(zero_copy_only=False)) if "known_user" in names else None,
        is_earlier_version=n_seeds == 0,
    )


def _by_seed(name: str, n_seeds: int) -> list[str]:
    """The column of a single seed, or one for each of several."""
    return [name] if n_seeds == 1 else [f"{name}_{number}" for number in range(1, n_seeds + 1)]
