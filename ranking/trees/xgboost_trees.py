"""Trees by XGBoost, grown leaf by leaf as LightGBM's.

Source: Chen and Guestrin, "XGBoost: a scalable tree boosting system", KDD 2016.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from ranking.trees.config import GBDTConfig
from ranking.trees.library import OnRound, grow_in_rounds
from ranking.trees.rows import LabeledTable
from recsys.errors import InputError
from recsys.system.progress import status_line
from recsys.system.threads import n_cores

_FORMAT = "ubj"
_HESSIAN = 0.25
"""p (1 - p) of a row at p = .5, where balanced classes begin."""


def xgboost_parameters(config: GBDTConfig, seed: int, mean_weight: float) -> dict[str, Any]:
    """Returns XGBoost's parameters.

    XGBoost bounds the sum of second derivatives of a leaf instead of its rows: `min_data_in_leaf` rows of the mean
    weight, before the first tree.
    """
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "grow_policy": "lossguide",
        "max_depth": 0,
        "max_leaves": config.num_leaves,
        "learning_rate": config.learning_rate,
        "min_child_weight": config.min_data_in_leaf * mean_weight * _HESSIAN,
        "colsample_bytree": config.feature_fraction,
        "subsample": config.bagging_fraction,
        "reg_lambda": config.l2,
        "max_bin": config.max_bin,
        "seed": seed,
        "nthread": n_cores(),
        "verbosity": 0,
    }
    return parameters | ({"booster": "dart", "rate_drop": config.drop_rate} if config.boosting == "dart" else {})


class _Blocks(xgb.DataIter):
    """Rows in blocks, which XGBoost reads several times to bin them."""

    def __init__(self, rows: LabeledTable, categorical: list[int]) -> None:
        self._rows, self._number = rows, 0
        n_columns = rows.table[:1].shape[1]
        self._types = ["c" if column in categorical else "q" for column in range(n_columns)]
        super().__init__()

    def next(self, input_data: Callable[..., None]) -> bool:
        """Hands on the next block; returns whether there was one."""
        block = self._rows.block(self._number)
        if block is None:
            return False
        table, label, weight = block
        input_data(data=table, label=label, weight=weight, feature_types=self._types)
        self._number += 1
        return True

    def reset(self) -> None:
        """Goes back to the first block."""
        self._number = 0


class XGBoostForest:
    """Trees of a file."""

    def __init__(self, booster: xgb.Booster, types: list[str]) -> None:
        self._booster, self._types = booster, types

    @classmethod
    def load(cls, path: Path) -> "XGBoostForest":
        """Reads a file."""
        booster = xgb.Booster(model_file=path)
        booster.set_param({"nthread": n_cores()})
        return cls(booster, list(booster.feature_types or []))

    @property
    def n_trees(self) -> int:
        """See `Forest`."""
        return int(self._booster.num_boosted_rounds())

    def logit(self, table: np.ndarray) -> np.ndarray:
        """See `Forest`."""
        data = xgb.DMatrix(table, feature_types=self._types, enable_categorical=True)
        return np.asarray(self._booster.predict(data, output_margin=True))

    def save_first(self, n_trees: int, path: Path) -> None:
        """See `Forest`."""
        path.write_bytes(self._booster[:n_trees].save_raw(_FORMAT))


class XGBoostGrowth:
    """Trees that grow by XGBoost, with the arguments of `LightGBMGrowth`. `Growth` tells the methods."""

    def __init__(
        self,
        config: GBDTConfig,
        seed: int,
        fitted: LabeledTable,
        monitored: LabeledTable | None,
        categorical: list[int],
        name: str,
    ) -> None:
        self._config, self._name = config, name
        parameters = xgboost_parameters(config, seed, float(fitted.weight.mean()))
        with _refused(), status_line(f"{name}  binning {len(fitted.label):,} rows"):
            self._fitted = _matrix(fitted, categorical, config.max_bin, None)
            self._monitored = None
            if monitored is not None:
                self._monitored = _matrix(monitored, categorical, config.max_bin, self._fitted)
        known = [self._fitted] if self._monitored is None else [self._fitted, self._monitored]
        self._booster = xgb.Booster(parameters, known)
        self._remembered = b""

    def grow(self, round_size: int, on_round: OnRound) -> None:
        """See `Growth`."""
        with _refused():
            grow_in_rounds(
                self._config.n_trees,
                round_size,
                self._name,
                lambda number: self._booster.update(self._fitted, number),
                lambda: (float(self._booster.eval(self._fitted).rsplit(":", 1)[1]), self._monitored_logit()),
                on_round,
            )

    def _monitored_logit(self) -> np.ndarray | None:
        if self._monitored is None:
            return None
        return np.asarray(self._booster.predict(self._monitored, output_margin=True), np.float64)

    def remember(self) -> None:
        """See `Growth`."""
        self._remembered = bytes(self._booster.save_raw(_FORMAT))

    def save(self, path: Path) -> None:
        """See `Growth`."""
        path.write_bytes(self._remembered)

    def save_all(self, path: Path) -> bool:
        """See `Growth`. DART scales earlier trees later."""
        if self._config.boosting == "dart":
            return False
        path.write_bytes(self._booster.save_raw(_FORMAT))
        return True


def _matrix(rows: LabeledTable, categorical: list[int], max_bin: int, like: xgb.DMatrix | None) -> xgb.DMatrix:
    return xgb.QuantileDMatrix(_Blocks(rows, categorical), max_bin=max_bin, ref=like, enable_categorical=True)


@contextmanager
def _refused() -> Iterator[None]:
    """Turns an error of XGBoost into one that names the settings."""
    try:
        yield
    except xgb.core.XGBoostError as error:
        reason = " ".join(next((line for line in str(error).splitlines() if line.strip()), "").split())
        raise InputError(f"XGBoost cannot train with these settings and rows ({reason}): change model.*") from error
