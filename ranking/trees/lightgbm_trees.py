"""Trees by LightGBM.

Source: Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from ranking.trees.config import GBDTConfig
from ranking.trees.library import OnRound, grow_in_rounds
from ranking.trees.rows import LabeledTable
from recsys.errors import InputError
from recsys.evaluation.logits import logit_of
from recsys.system.progress import status_line
from recsys.system.threads import n_cores

_PROBABILITIES = (np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)  # the outermost with finite logits


class _SilentLogger:
    """Drops LightGBM's log messages: its warnings about bins do not apply to large categorical features."""

    def info(self, message: str) -> None:
        """Drops a message."""

    def warning(self, message: str) -> None:
        """Drops a message."""


def lightgbm_parameters(config: GBDTConfig, seed: int) -> dict[str, Any]:
    """Returns LightGBM's parameters."""
    boosting: dict[str, Any] = {"boosting": config.boosting}
    if config.boosting == "dart":
        boosting |= {"drop_rate": config.drop_rate, "drop_seed": seed}
    return boosting | {
        "objective": "binary",
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_data_in_leaf,
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": config.l2,
        "max_bin": config.max_bin,
        "cat_smooth": config.cat_smooth,
        "min_data_per_group": config.min_data_per_group,
        "seed": seed,
        "num_threads": n_cores(),
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


class LightGBMForest:
    """Trees of a file or a text."""

    def __init__(self, booster: lgb.Booster) -> None:
        self._booster = booster

    @classmethod
    def load(cls, path: Path) -> "LightGBMForest":
        """Reads a file."""
        return cls(lgb.Booster(model_file=path))

    @property
    def n_trees(self) -> int:
        """See `Forest`."""
        return int(self._booster.num_trees())

    def logit(self, table: np.ndarray) -> np.ndarray:
        """See `Forest`."""
        return np.asarray(self._booster.predict(table, raw_score=True))

    def save_first(self, n_trees: int, path: Path) -> None:
        """See `Forest`."""
        # written from Python: LightGBM's own writer reports no error when the disk is full
        path.write_text(self._booster.model_to_string(num_iteration=n_trees), encoding="utf-8")


class LightGBMGrowth:
    """Trees that grow by LightGBM. `Growth` tells the methods.

    Args:
        config: hyperparameters.
        seed: of rows and columns that trees leave out.
        fitted: the rows to fit to.
        monitored: the rows whose logits each round needs; None for none.
        categorical: positions of the columns that are split by sets of ids.
        name: shown on the progress line.
    """

    def __init__(
        self,
        config: GBDTConfig,
        seed: int,
        fitted: LabeledTable,
        monitored: LabeledTable | None,
        categorical: list[int],
        name: str,
    ) -> None:
        lgb.register_logger(_SilentLogger())
        self._config, self._name, self._monitored = config, name, monitored
        parameters = lightgbm_parameters(config, seed)
        with _refused(), status_line(f"{name}  binning {len(fitted.label):,} rows"):
            data = lgb.Dataset(
                fitted.table,
                fitted.label,
                weight=fitted.weight,
                categorical_feature=categorical,
                params=parameters,
            ).construct()
            self._booster = lgb.Booster(parameters, data)
            if monitored is not None:
                valid = data.create_valid(monitored.table, params=parameters).construct()
                self._booster.add_valid(valid, "monitor")
        self._remembered = ""

    def grow(self, round_size: int, on_round: OnRound) -> None:
        """See `Growth`."""
        with _refused():
            grow_in_rounds(
                self._config.n_trees,
                round_size,
                self._name,
                lambda number: self._booster.update(),
                lambda: (self._booster.eval_train()[0][2], self._monitored_logit()),
                on_round,
            )

    def _monitored_logit(self) -> np.ndarray | None:
        if self._monitored is None:
            return None
        found: list[np.ndarray] = []

        def store_logits(p: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
            found.append(logit_of(np.clip(p, *_PROBABILITIES)))
            return "stored", 0.0, True

        self._booster.eval_valid(store_logits)
        return found[0]

    def remember(self) -> None:
        """See `Growth`."""
        self._remembered = self._booster.model_to_string()

    def save(self, path: Path) -> None:
        """See `Growth`."""
        path.write_text(self._remembered, encoding="utf-8")

    def save_all(self, path: Path) -> bool:
        """See `Growth`. DART scales earlier trees later."""
        if self._config.boosting == "dart":
            return False
        path.write_text(self._booster.model_to_string(num_iteration=-1), encoding="utf-8")
        return True


@contextmanager
def _refused() -> Iterator[None]:
    """Turns an error of LightGBM into one that names the settings."""
    try:
        yield
    except lgb.basic.LightGBMError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"LightGBM cannot train with these settings and rows ({reason}): change model.*") from error
