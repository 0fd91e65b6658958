"""Gradient-boosted decision trees by LightGBM, XGBoost or CatBoost: the baseline of the deep models."""

import time
from pathlib import Path

import numpy as np

from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
from ranking.trees.libraries import begin_growth, load_forest, tree_file
from ranking.trees.library import Forest, predict_trees
from ranking.trees.rows import READ_ROWS, LabeledTable, TableSequence
from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split, UnseenIds
from recsys.errors import InputError
from recsys.evaluation.metrics import measure
from recsys.evaluation.own_metrics import measure_own
from recsys.system.progress import console
from recsys.training.config import EarlyStopping
from recsys.training.early_stopping import composite, monitored_text, split_monitored_rows
from recsys.training.log import Log
from recsys.training.losses import build_loss
from recsys.training.state import Epoch, FitReport, OnEpoch, Progress, ignore_epoch
from recsys.training.update.finite import check_scores

_ALL_TREES = "all_trees"
"""All grown trees, until every fit of the run is finished."""
_LEARNING_RATE = "model.learning_rate"


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
        weights: the folder that the trees are saved in.
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
        for key in ("self_ensemble", "branches"):
            if getattr(trainer.loss, key):
                raise InputError(f"trainer.loss.{key} is for deep models: remove it for gbdt")
        size = split.size("cpu")
        config, trainer = config.resolved(size), trainer.resolved(size)
        self._config, self._split, self._trainer, self._log, self._name = config, split, trainer, log, name
        self._rows, self.monitored_rows = split_monitored_rows(split, monitor, trainer.early_stopping, trainer.seed)
        _, self.link = build_loss(trainer.loss, split.prior)
        self._file = weights / tree_file(config.library)
        self._all_trees = self._file.with_stem(_ALL_TREES)
        self._forest: Forest | None = None

    def table(self, rows: Rows, is_fitted: bool) -> LabeledTable:
        """Rows with labels, and weights: w for positives, 1 for negatives, times those of the data.

        LightGBM's `scale_pos_weight` does not replace them: it starts at the unweighted base rate.
        """
        numbers = rows.numbers()
        label = self._split.store.labels(numbers)
        weight = np.where(label == 1, self.link.trained_weight, 1.0).astype(np.float32)
        row_weight = self._split.training_weights(numbers)
        share, seed = self._trainer.unseen_share, self._trainer.seed
        split = UnseenIds(self._split, share, seed) if is_fitted else self._split
        return LabeledTable(TableSequence(split, rows), label, weight if row_weight is None else weight * row_weight)

    def fit(self, on_epoch: OnEpoch = ignore_epoch) -> FitReport:
        """Grows the trees and saves those of the best epoch.

        Raises:
            InputError: when the library refuses the settings, or a score is not finite.
        """
        fitted = self.table(self._rows, is_fitted=True)
        monitored = None if self.monitored_rows is None else self.table(self.monitored_rows, is_fitted=False)
        n_categorical = len(self._split.schema.categorical) if self._config.categorical == "native" else 0
        growth = begin_growth(
            self._config,
            self._trainer.seed,
            fitted,
            monitored,
            list(range(n_categorical)),
            self._name,
            self._trainer.patience_trees,
        )
        progress, size = Progress(precision="fp32"), self._trainer.trees_per_epoch
        stopping, n_grown, began = self._trainer.early_stopping, 0, time.perf_counter()

        def on_round(n_trees: int, loss: float, monitored_logit: np.ndarray | None) -> bool:
            nonlocal began, n_grown
            epoch, n_grown = Epoch(loss, time.perf_counter() - began, 0.0), n_trees
            self._log.scalar("train/loss", loss, n_trees)
            progress.epochs.append(epoch)
            if stopping is not None and monitored_logit is not None:
                epoch.monitored = self._monitored_value(monitored_logit, n_trees, stopping)
            if epoch.monitored is None:
                progress.best_epoch = progress.epoch
            elif progress.best_value is None or epoch.monitored > progress.best_value:
                progress.best_epoch, progress.best_value = progress.epoch, epoch.monitored
                growth.remember()
            progress.epoch += 1
            on_epoch(epoch.monitored)
            began = time.perf_counter()
            return stopping is None or progress.n_epochs_since_best * size < self._trainer.patience_trees

        self._file.parent.mkdir(parents=True, exist_ok=True)
        growth.grow(size, on_round)
        if stopping is None:
            growth.remember()
        growth.save(self._file)
        if stopping is not None:
            growth.save_all(self._all_trees)
        self._forest = load_forest(self._config.library, self._file)
        self.predict(ListedRows(self._rows(np.arange(min(len(self._rows), READ_ROWS)))), "")
        best, weights = progress.best_value, stopping and stopping.weights
        value = "" if best is None or not weights else f"  monitored {monitored_text(best, weights)}"
        seconds = sum(epoch.seconds for epoch in progress.epochs)
        console.print(f"{self._name}  {self._forest.n_trees} of {n_grown} trees kept{value}  {seconds:.0f} s")
        return FitReport(self.link, len(self._rows), progress)

    def keep_epochs(self, n_epochs: int) -> None:
        """Keeps the trees of the first epochs of a fit that has all of its trees; the last may have fewer."""
        forest = load_forest(self._config.library, self._all_trees)
        forest.save_first(min(forest.n_trees, n_epochs * self._trainer.trees_per_epoch), self._file)
        self._forest = load_forest(self._config.library, self._file)

    def _monitored_value(self, model_logit: np.ndarray, n_trees: int, stopping: EarlyStopping) -> float:
        """Returns the composite metric of the monitored rows."""
        assert self.monitored_rows is not None
        numbers = self.monitored_rows.numbers()
        label, logits = self._split.store.labels(numbers), self.link.logits(check_scores(model_logit, _LEARNING_RATE))
        weight = self._split.store.weights(numbers)
        metrics, own = measure(label, logits, weight), measure_own(stopping.weights, label, logits, weight)
        for name, value in metrics.defined().items():
            self._log.scalar(f"monitor/{name}", value, n_trees)
        self._log.curves("monitor/pr", label, logits.natural, n_trees)
        return composite(metrics, stopping.weights, own)

    def predict(self, rows: Rows, name: str) -> np.ndarray:
        """Returns [n] float32 logits of rows.

        Raises:
            InputError: when one is not finite.
        """
        forest = self._forest or load_forest(self._config.library, self._file)
        return check_scores(predict_trees(forest, self._split, rows, name), _LEARNING_RATE)

    def clean_up(self) -> None:
        """Does nothing: see `Trainer.clean_up`."""


def has_all_trees(weights: Path) -> bool:
    """Whether the folder of a fit has all of its grown trees."""
    return any(weights.glob(f"{_ALL_TREES}.*"))


def remove_all_trees(weights: Path) -> None:
    """Removes the trees that are not kept."""
    for path in weights.glob(f"{_ALL_TREES}.*"):
        path.unlink()
