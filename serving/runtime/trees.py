"""Trees of a bundle, scored by the library that grew them.

Shapes: n candidates, C columns.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recsys.errors import InputError
from serving.runtime.layout import TreesSpec
from serving.runtime.split_encoder import SplitEncoder, SplitInputs

MIN_ROWS = 64
"""Candidates for which a thread of their own pays."""
Score = Callable[[np.ndarray, int], np.ndarray]
"""Maps [n, C] float32 rows and a number of threads to [n] logits."""


class TreeModel:
    """Trees, which read ids and numbers.

    Args:
        spec: the model.
        folder: the folder of the bundle.
        encoder: the encoder of its split.
        vocabulary_of: the vocabulary of each feature.
        n_threads: threads of a call.

    Raises:
        InputError: when the library of the trees is not installed.
    """

    def __init__(
        self, spec: TreesSpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str], n_threads: int
    ) -> None:
        try:
            self._score = _OPENERS[spec.kind](folder / spec.file)
        except ModuleNotFoundError as error:
            raise InputError(f"{folder} has trees of {spec.kind}: pip install {error.name}") from error
        self._encoder, self._n_threads = encoder, n_threads
        self._starts = encoder.starts_of([vocabulary_of[name] for name in encoder.spec.categorical])

    def logits(self, requests: Sequence[SplitInputs]) -> np.ndarray:
        """See `Model`."""
        parts = [self._rows(inputs) for inputs in requests]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        n_threads = min(self._n_threads, max(1, len(rows) // MIN_ROWS))
        with np.errstate(over="ignore"):
            return self._score(rows, n_threads).astype(np.float32)

    def _rows(self, inputs: SplitInputs) -> np.ndarray:
        """[n, C] float32: ids, then numbers."""
        encoder, n = self._encoder, inputs.encoded.n
        n_ids, n_measured, n_numeric = len(self._starts), inputs.measured.shape[1], encoder.spec.n_numeric
        rows = np.empty((n, n_ids + n_measured + inputs.dense.shape[1] - n_numeric), np.float32)
        rows[:, :n_ids] = encoder.ids[inputs.encoded.codes[:, encoder.categorical] + self._starts]
        rows[:, n_ids : n_ids + n_measured] = inputs.measured
        rows[:, n_ids + n_measured :] = inputs.dense[:, n_numeric:]
        return rows


# Importing one of the libraries takes most of a second, so each is imported only for a bundle with its trees.


def _lightgbm(path: Path) -> Score:
    import lightgbm as lgb

    booster = lgb.Booster(model_file=path)
    return lambda rows, n_threads: np.asarray(booster.predict(rows, raw_score=True, num_threads=n_threads))


def _xgboost(path: Path) -> Score:
    import xgboost as xgb

    booster = xgb.Booster(model_file=path)
    types = list(booster.feature_types or [])

    def score(rows: np.ndarray, n_threads: int) -> np.ndarray:
        data = xgb.DMatrix(rows, feature_types=types, enable_categorical=True, nthread=n_threads)
        return np.asarray(booster.predict(data, output_margin=True))

    return score


def _catboost(path: Path) -> Score:
    import catboost
    import pandas as pd

    model = catboost.CatBoost().load_model(str(path))
    categorical = set(model.get_cat_feature_indices())

    def score(rows: np.ndarray, n_threads: int) -> np.ndarray:
        columns = {
            str(number): rows[:, number].astype(np.int64) if number in categorical else rows[:, number]
            for number in range(rows.shape[1])
        }
        logits = model.predict(pd.DataFrame(columns), prediction_type="RawFormulaVal", thread_count=n_threads)
        return np.asarray(logits)

    return score


_OPENERS: dict[str, Callable[[Path], Score]] = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}
