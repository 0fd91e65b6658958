"""Gradient-boosted decision trees by LightGBM: the baseline of the deep models."""

import os
import time
from pathlib import Path
from typing import Any, Literal

import lightgbm as lgb
import numpy as np
from pydantic import ConfigDict, Field

from recsys.config import StrictModel
from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.evaluation.logits import logit_of
from recsys.evaluation.metrics import measure
from recsys.system.progress import console, progress_line
from recsys.training.config import EarlyStopping, LossConfig
from recsys.training.early_stopping import composite, split_monitored_rows
from recsys.training.log import Log
from recsys.training.losses import build_loss
from recsys.training.state import Epoch, FitReport, OnEpoch, Progress, ignore_epoch
from recsys.training.step import check_scores

MODEL_FILE = "model.txt"
_READ_ROWS = 32_768
_LEARNING_RATE = "model.learning_rate"
_PROBABILITIES = (np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)  # the outermost with finite logits


class _SilentLogger:
    """Drops LightGBM's log messages: its warnings about bins do not apply to large categorical features."""

    def info(self, message: str) -> None:
        """Drops a message."""

    def warning(self, message: str) -> None:
        """Drops a message."""


class GBDTConfig(StrictModel):
    """Hyperparameters of the trees."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Literal["gbdt"] = "gbdt"
    boosting: Literal["gbdt", "dart"] = "gbdt"
    n_trees: int = Field(default=1000, ge=1)
    """Maximum number of trees; early stopping may keep fewer."""
    learning_rate: float = Field(default=0.05, gt=0)
    num_leaves: int = Field(default=31, ge=2, le=131_072)
    min_data_in_leaf: int = Field(default=100, ge=1)
    feature_fraction: float = Field(default=0.7, gt=0, le=1)
    bagging_fraction: float = Field(default=0.8, gt=0, le=1)
    l2: float = Field(default=1.0, ge=0)
    max_bin: int = Field(default=255, ge=2)
    categorical: Literal["native", "ordered"] = "native"
    """native: splits by sets of ids. ordered: splits ids as numbers; ids are sorted by falling frequency."""
    cat_smooth: float = Field(default=10.0, ge=0)
    min_data_per_group: int = Field(default=100, ge=1)
    drop_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of trees dropped in each DART iteration."""


class GBDTTrainerConfig(StrictModel):
    """Training settings of the trees; they have the same meaning as for deep models."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    loss: LossConfig = LossConfig()
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null grows all `n_trees`."""
    trees_per_epoch: int = Field(default=50, ge=1)
    """Trees of an epoch: early stopping evaluates once per epoch, and its patience counts epochs."""


class TableSequence(lgb.Sequence):
    """The rows of a split as a LightGBM sequence, read in blocks to avoid a float64 copy of all rows.

    Args:
        split: encodes the rows.
        rows: the rows to read.
    """

    def __init__(self, split: Split, rows: Rows) -> None:
        self._split, self._rows = split, rows
        self.batch_size = _READ_ROWS
        self._block: tuple[int, np.ndarray] = (-1, np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice | list[int]) -> np.ndarray:
        """Returns one row as float64 or several rows as float32."""
        if isinstance(index, slice):
            return self.read(np.arange(*index.indices(len(self))))
        if isinstance(index, list):
            return self.read(np.array(index))
        number, offset = divmod(int(index), _READ_ROWS)  # LightGBM samples single rows in rising order
        if self._block[0] != number:
            start = number * _READ_ROWS
            self._block = (number, self.read(np.arange(start, min(start + _READ_ROWS, len(self)))))
        return self._block[1][offset].astype(np.float64)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Returns [b, n_columns] float32: ids, then numbers."""
        ids, numbers = self._split.table(self._rows(positions))
        return np.concatenate([ids.astype(np.float32), numbers], axis=1)


class GBDTTrainer:
    """Trains trees on a split's fitting rows, with the methods of `recsys.training.trainer.Trainer`.

    Class weights, the rows set aside and the composite metric are those of deep models. Features are the split's ids
    (with ids for rare and missing values), numbers with nulls, missing indicators and the sequence statistics of the
    schema. A killed fit restarts from the first tree.

    Args:
        config: hyperparameters.
        split: encodes rows and defines the fitting rows.
        monitor: rows that early stopping evaluates on; None sets some of the fitting rows aside.
        trainer: loss, early stopping and seed.
        weights: the folder that the trees are saved in, as text.
        log: receives training metrics.
        name: shown on the progress line.

    Raises:
        InputError: when the loss is not the log loss, no rows are left to train on, or monitored rows lack a class.
    """

    def __init__(
        self,
        config: GBDTConfig,
        split: Split,
        monitor: Rows | None,
        trainer: GBDTTrainerConfig,
        weights: Path,
        log: Log,
        name: str,
    ) -> None:
        if trainer.loss.name != "log_loss":
            raise InputError(
                f"trainer.loss.name={trainer.loss.name}: gbdt supports only log_loss: set trainer.loss.name=log_loss"
            )
        self._config, self._split, self._trainer, self._log, self._name = config, split, trainer, log, name
        self._rows, self._monitor = split_monitored_rows(split, monitor, trainer.early_stopping, trainer.seed)
        _, self.link = build_loss(trainer.loss, split.prior)
        self._file = weights / MODEL_FILE
        self._booster: lgb.Booster | None = None

    def parameters(self) -> dict[str, Any]:
        """Returns LightGBM's parameters."""
        config = self._config
        boosting: dict[str, Any] = {"boosting": config.boosting}
        if config.boosting == "dart":
            boosting |= {"drop_rate": config.drop_rate, "drop_seed": self._trainer.seed}
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
            "seed": self._trainer.seed,
            "num_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def weights(self, label: np.ndarray) -> np.ndarray:
        """Returns [n] float32 weights of the fitted rows: w for positives, 1 for negatives, times those of the data.

        `scale_pos_weight` does not replace them: it starts at the unweighted base rate.
        """
        weights = np.where(label == 1, self.link.trained_weight, 1.0).astype(np.float32)
        row_weights = self._split.training_weights(self._rows.numbers())
        return weights if row_weights is None else weights * row_weights

    def fit(self, on_epoch: OnEpoch = ignore_epoch) -> FitReport:
        """Grows the trees and saves those of the best epoch.

        Raises:
            InputError: when LightGBM refuses the settings, or a score is not finite.
        """
        lgb.register_logger(_SilentLogger())
        try:
            return self._fit(on_epoch)
        except lgb.basic.LightGBMError as error:
            raise InputError(
                f"LightGBM cannot train with these settings and rows ({' '.join(str(error).split())}): change model.*"
            ) from error

    def _fit(self, on_epoch: OnEpoch) -> FitReport:
        schema, parameters = self._split.schema, self.parameters()
        is_native = self._config.categorical == "native" and schema.categorical
        label = self._split.store.labels(self._rows.numbers())
        with console.status(f"{self._name}  binning {len(self._rows):,} rows"):
            data = lgb.Dataset(
                TableSequence(self._split, self._rows),
                label,
                weight=self.weights(label),
                categorical_feature=list(range(len(schema.categorical))) if is_native else [],
                params=parameters,
            ).construct()
        booster = lgb.Booster(parameters, data)
        if self._monitor is not None:
            booster.add_valid(
                data.create_valid(TableSequence(self._split, self._monitor), params=parameters).construct(), "monitor"
            )
        progress, n_trees, size = Progress(precision="fp32"), self._config.n_trees, self._trainer.trees_per_epoch
        stopping = self._trainer.early_stopping
        self._file.parent.mkdir(parents=True, exist_ok=True)
        for first in range(0, n_trees, size):
            epoch = self._grow(booster, min(size, n_trees - first))
            progress.epochs.append(epoch)
            if stopping is not None:
                epoch.monitored = self._monitored_value(booster, stopping)
            if epoch.monitored is None:
                progress.best_epoch = progress.epoch
            elif progress.best_value is None or epoch.monitored > progress.best_value:
                progress.best_epoch, progress.best_value = progress.epoch, epoch.monitored
                self._save(booster)  # now: DART rescales earlier trees later, so truncation does not restore them
            progress.epoch += 1
            on_epoch(epoch.monitored)
            if stopping is not None and progress.n_epochs_since_best >= stopping.patience:
                break
        if stopping is None:
            self._save(booster)
        self._booster = lgb.Booster(model_file=self._file)
        self.predict(ListedRows(self._rows(np.arange(min(len(self._rows), _READ_ROWS)))), "")
        monitored = "" if progress.best_value is None else f"  monitored {progress.best_value:.5f}"
        seconds = sum(epoch.seconds for epoch in progress.epochs)
        console.print(
            f"{self._name}  {self._booster.num_trees()} of {booster.num_trees()} trees kept{monitored}  {seconds:.0f} s"
        )
        return FitReport(self.link, len(self._rows), progress)

    def _save(self, booster: lgb.Booster) -> None:
        """Writes the trees from Python: LightGBM's own writer reports no error when the disk is full."""
        self._file.write_text(booster.model_to_string(), encoding="utf-8")

    def _grow(self, booster: lgb.Booster, n_trees: int) -> Epoch:
        start, first = time.perf_counter(), booster.num_trees()
        title = f"{self._name} trees {first + 1} to {first + n_trees} of {self._config.n_trees}"
        with progress_line(title, n_trees, unit="trees") as line:
            for _ in range(n_trees):
                booster.update()
                line.advance(1)
        seconds = time.perf_counter() - start
        ((_, _, loss, _),) = booster.eval_train()
        self._log.scalar("train/loss", loss, booster.num_trees())
        return Epoch(loss, seconds, 0.0)

    def _monitored_value(self, booster: lgb.Booster, stopping: EarlyStopping) -> float:
        """Returns the composite metric of the monitored rows."""
        assert self._monitor is not None
        label = self._split.store.labels(self._monitor.numbers())
        model_logits: list[np.ndarray] = []

        def store_logits(p: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
            model_logits.append(logit_of(np.clip(p, *_PROBABILITIES)))
            return "stored", 0.0, True

        booster.eval_valid(store_logits)
        logits = self.link.logits(check_scores(model_logits[0], _LEARNING_RATE))
        metrics = measure(label, logits, self._split.store.weights(self._monitor.numbers()))
        for name, value in metrics.defined().items():
            self._log.scalar(f"monitor/{name}", value, booster.num_trees())
        self._log.curves("monitor/pr", label, logits.natural, booster.num_trees())
        return composite(metrics, stopping.weights)

    def predict(self, rows: Rows, name: str) -> np.ndarray:
        """Returns [n] float32 logits of rows.

        Raises:
            InputError: when one is not finite.
        """
        booster = self._booster or lgb.Booster(model_file=self._file)
        return check_scores(predict_trees(booster, self._split, rows, name), _LEARNING_RATE)

    def clean_up(self) -> None:
        """Does nothing: see `Trainer.clean_up`."""


def predict_trees(booster: lgb.Booster, split: Split, rows: Rows, name: str = "scoring") -> np.ndarray:
    """Returns [n] float32 logits of rows; an empty name shows no progress."""
    table, logits = TableSequence(split, rows), np.empty(len(rows), np.float32)
    with progress_line(name, len(rows), is_shown=bool(name)) as line:
        for start in range(0, len(rows), _READ_ROWS):
            block = table[start : start + _READ_ROWS]
            with np.errstate(over="ignore"):  # a logit that is infinite in float32 is reported by the caller
                logits[start : start + len(block)] = booster.predict(block, raw_score=True)
            line.advance(len(block))
    return logits
