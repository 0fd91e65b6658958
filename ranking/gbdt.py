"""Gradient-boosted decision trees by LightGBM: the baseline of the deep models."""

import time
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from ranking.gbdt_config import GBDTConfig, GBDTTrainerConfig
from ranking.gbdt_rows import READ_ROWS, TableSequence, predict_trees
from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split, UnseenIds
from recsys.errors import InputError
from recsys.evaluation.logits import logit_of
from recsys.evaluation.metrics import measure
from recsys.system.progress import console, progress_line, status_line
from recsys.system.threads import n_cores
from recsys.training.config import EarlyStopping
from recsys.training.early_stopping import composite, few_clicks_warning, monitored_text, split_monitored_rows
from recsys.training.log import Log
from recsys.training.losses import build_loss
from recsys.training.state import Epoch, FitReport, OnEpoch, Progress, ignore_epoch
from recsys.training.update.finite import check_scores

MODEL_FILE = "model.txt"
_ALL_TREES_FILE = "all_trees.txt"
"""All grown trees, until every fit of the run is finished."""
_LEARNING_RATE = "model.learning_rate"
_PROBABILITIES = (np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)  # the outermost with finite logits


class _SilentLogger:
    """Drops LightGBM's log messages: its warnings about bins do not apply to large categorical features."""

    def info(self, message: str) -> None:
        """Drops a message."""

    def warning(self, message: str) -> None:
        """Drops a message."""


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
        size = split.size("cpu")
        config, trainer = config.resolved(size), trainer.resolved(size)
        self._config, self._split, self._trainer, self._log, self._name = config, split, trainer, log, name
        self._rows, self.monitored_rows = split_monitored_rows(split, monitor, trainer.early_stopping, trainer.seed)
        _, self.link = build_loss(trainer.loss, split.prior)
        self._file, self._all_trees = weights / MODEL_FILE, weights / _ALL_TREES_FILE
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
            "num_threads": n_cores(),
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
        if warning := few_clicks_warning(self._split, self.monitored_rows):
            console.print(f"{self._name}  {warning}", style="yellow")
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
        with status_line(f"{self._name}  binning {len(self._rows):,} rows"):
            data = lgb.Dataset(
                TableSequence(UnseenIds(self._split, self._trainer.unseen_share, self._trainer.seed), self._rows),
                label,
                weight=self.weights(label),
                categorical_feature=list(range(len(schema.categorical))) if is_native else [],
                params=parameters,
            ).construct()
        booster = lgb.Booster(parameters, data)
        if self.monitored_rows is not None:
            booster.add_valid(
                data.create_valid(TableSequence(self._split, self.monitored_rows), params=parameters).construct(),
                "monitor",
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
                self._save(booster)
            progress.epoch += 1
            on_epoch(epoch.monitored)
            if stopping is not None and progress.n_epochs_since_best * size >= self._trainer.patience_trees:
                break
        if stopping is None:
            self._save(booster)
        elif self._config.boosting != "dart":  # DART rescales earlier trees later: truncation does not restore them
            self._all_trees.write_text(booster.model_to_string(num_iteration=-1), encoding="utf-8")
        self._booster = lgb.Booster(model_file=self._file)
        self.predict(ListedRows(self._rows(np.arange(min(len(self._rows), READ_ROWS)))), "")
        best, weights = progress.best_value, stopping and stopping.weights
        monitored = "" if best is None or not weights else f"  monitored {monitored_text(best, weights)}"
        seconds = sum(epoch.seconds for epoch in progress.epochs)
        console.print(
            f"{self._name}  {self._booster.num_trees()} of {booster.num_trees()} trees kept{monitored}  {seconds:.0f} s"
        )
        return FitReport(self.link, len(self._rows), progress)

    def _save(self, booster: lgb.Booster) -> None:
        """Writes the trees from Python: LightGBM's own writer reports no error when the disk is full."""
        self._file.write_text(booster.model_to_string(), encoding="utf-8")

    def keep_epochs(self, n_epochs: int) -> None:
        """Keeps the trees of the first epochs of a fit that has all of its trees; the last may have fewer."""
        booster = lgb.Booster(model_file=self._all_trees)
        n_trees = min(booster.num_trees(), n_epochs * self._trainer.trees_per_epoch)
        self._file.write_text(booster.model_to_string(num_iteration=n_trees), encoding="utf-8")
        self._booster = lgb.Booster(model_file=self._file)

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
        assert self.monitored_rows is not None
        label = self._split.store.labels(self.monitored_rows.numbers())
        model_logits: list[np.ndarray] = []

        def store_logits(p: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
            model_logits.append(logit_of(np.clip(p, *_PROBABILITIES)))
            return "stored", 0.0, True

        booster.eval_valid(store_logits)
        logits = self.link.logits(check_scores(model_logits[0], _LEARNING_RATE))
        metrics = measure(label, logits, self._split.store.weights(self.monitored_rows.numbers()))
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


def has_all_trees(weights: Path) -> bool:
    """Whether the folder of a fit has all of its grown trees."""
    return (weights / _ALL_TREES_FILE).is_file()


def remove_all_trees(weights: Path) -> None:
    """Removes the trees that are not kept."""
    (weights / _ALL_TREES_FILE).unlink(missing_ok=True)
