"""Trees by CatBoost: symmetric trees, whose native categories are encoded by rates of the rows before each row.

Source: Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features", NeurIPS 2018.
"""

import math
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pandas as pd

from ranking.trees.config import GBDTConfig
from ranking.trees.library import OnRound
from ranking.trees.rows import LabeledTable
from recsys.errors import InputError
from recsys.system.progress import status_line
from recsys.system.threads import n_cores


def catboost_parameters(config: GBDTConfig, seed: int, patience_trees: int | None) -> dict[str, Any]:
    """Returns CatBoost's parameters. A symmetric tree has a depth instead of leaves: that of as many leaves."""
    parameters: dict[str, Any] = {
        "loss_function": "Logloss",
        "iterations": config.n_trees,
        "learning_rate": config.learning_rate,
        "depth": max(1, math.ceil(math.log2(config.num_leaves))),
        "rsm": config.feature_fraction,
        "bootstrap_type": "Bernoulli",
        "subsample": config.bagging_fraction,
        "l2_leaf_reg": config.l2,
        "border_count": min(config.max_bin - 1, 254),
        "random_seed": seed,
        "thread_count": n_cores(),
        "allow_writing_files": False,
        "logging_level": "Silent",
    }
    return parameters | ({} if patience_trees is None else {"od_type": "Iter", "od_wait": patience_trees})


def _frame(table: np.ndarray, categorical: list[int]) -> pd.DataFrame:
    """The columns of a table, those of categories as integers."""
    columns = {
        str(number): table[:, number].astype(np.int64) if number in categorical else table[:, number]
        for number in range(table.shape[1])
    }
    return pd.DataFrame(columns)


class CatBoostForest:
    """Trees of a file."""

    def __init__(self, model: catboost.CatBoost) -> None:
        self._model = model

    @classmethod
    def load(cls, path: Path) -> "CatBoostForest":
        """Reads a file."""
        return cls(catboost.CatBoost().load_model(str(path)))

    @property
    def n_trees(self) -> int:
        """See `Forest`."""
        return int(self._model.tree_count_)

    def logit(self, table: np.ndarray) -> np.ndarray:
        """See `Forest`."""
        frame = _frame(table, list(self._model.get_cat_feature_indices()))
        return np.asarray(self._model.predict(frame, prediction_type="RawFormulaVal", thread_count=n_cores()))

    def save_first(self, n_trees: int, path: Path) -> None:
        """See `Forest`."""
        _save(self._model, n_trees, path)


class CatBoostGrowth:
    """Trees that grow by CatBoost, with the arguments of `LightGBMGrowth`. `Growth` tells the methods.

    CatBoost grows all trees in one call, so that rounds are gone through afterwards: growth ends by the log loss of the
    monitored rows, and `on_round` chooses among the trees that were grown.

    Args:
        patience_trees: trees without a lower log loss of the monitored rows before growth stops.
    """

    def __init__(
        self,
        config: GBDTConfig,
        seed: int,
        fitted: LabeledTable,
        monitored: LabeledTable | None,
        categorical: list[int],
        name: str,
        patience_trees: int,
    ) -> None:
        self._name, self._categorical = name, categorical
        patience = None if monitored is None else patience_trees
        self._model = catboost.CatBoost(catboost_parameters(config, seed, patience))
        self._fitted = self._pool(fitted)
        self._monitored = None if monitored is None else self._pool(monitored)
        self._n_present = self._n_remembered = 0

    def _pool(self, rows: LabeledTable) -> catboost.Pool:
        frame = _frame(rows.table.whole(), self._categorical)
        return catboost.Pool(frame, rows.label, cat_features=self._categorical, weight=rows.weight)

    def grow(self, round_size: int, on_round: OnRound) -> None:
        """See `Growth`."""
        try:
            with status_line(f"{self._name}  growing trees"):
                self._model.fit(self._fitted, eval_set=self._monitored, use_best_model=False)
        except catboost.CatBoostError as error:
            raise InputError(
                f"CatBoost cannot train with these settings and rows ({' '.join(str(error).split())}): change model.*"
            ) from error
        n_trees, losses = self._model.tree_count_, self._model.evals_result_["learn"]["Logloss"]
        logits = iter(())
        if self._monitored is not None:
            logits = self._model.staged_predict(
                self._monitored, prediction_type="RawFormulaVal", eval_period=round_size, thread_count=n_cores()
            )
        for first in range(0, n_trees, round_size):
            self._n_present = min(first + round_size, n_trees)
            if not on_round(self._n_present, losses[self._n_present - 1], next(logits, None)):
                return

    def remember(self) -> None:
        """See `Growth`."""
        self._n_remembered = self._n_present

    def save(self, path: Path) -> None:
        """See `Growth`."""
        _save(self._model, self._n_remembered, path)

    def save_all(self, path: Path) -> bool:
        """See `Growth`."""
        _save(self._model, int(self._model.tree_count_), path)
        return True


def _save(model: catboost.CatBoost, n_trees: int, path: Path) -> None:
    """Writes the first trees of a model, and leaves the model as it is."""
    first = model.copy()
    first.shrink(ntree_end=n_trees)
    first.save_model(str(path), format="cbm")
