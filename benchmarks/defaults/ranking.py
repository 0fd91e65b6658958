"""Fits every ranking model with default settings to a data set, beside the baselines, with the same folds.

Shapes: n rows of a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchmarks.defaults.baselines import (
    Columns,
    constant_rate,
    default_lightgbm,
    logistic_regression,
    out_of_fold,
    tuned_logistic_regression,
)
from benchmarks.defaults.source import Source
from pipelines.common.config import load_rank_config
from pipelines.common.data import prepare_raw
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.rank import describe, execute
from ranking.models import model_names
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.logits import Logits, log_pos_weight_of, logit_of
from recsys.evaluation.metrics import Metrics, measure
from recsys.runs.folder import RunFolder
from recsys.runs.predictions import read_predictions
from recsys.system.files import is_done
from recsys.system.progress import console
from recsys.system.world import join_world

N_BASELINE_FOLDS_FROM = 100_000
"""From this many rows on, one fold of five is evaluated: its rows are many enough, and five fits take long."""
BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "constant": constant_rate,
    "logistic regression": logistic_regression,
    "logistic, C = 0.1": tuned_logistic_regression,
    "LightGBM": default_lightgbm,
}
_BASELINES_FILE = "baselines.npy"
_N_REPLICATES = 300
_QUANTILE = 1.96
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Gap:
    """A difference of a model and a baseline, positive if the model is worse, and its standard error."""

    difference: float
    standard_error: float

    @property
    def is_worse(self) -> bool:
        """Whether the model is worse by more than two standard errors."""
        return self.difference > 2 * self.standard_error


@dataclass(frozen=True)
class Outcome:
    """One model or baseline on one data set."""

    metrics: Metrics
    natural: np.ndarray
    """[n] logits of the evaluated rows."""

    @classmethod
    def of(cls, label: np.ndarray, natural: np.ndarray) -> "Outcome":
        """Measures the [n] logits of rows with [n] labels."""
        return cls(measure(label, Logits.of_one_fit(natural, log_pos_weight_of(label))), natural)


@dataclass(frozen=True)
class Result:
    """All models and baselines on one data set."""

    name: str
    n_rows: int
    label: np.ndarray
    """[n] labels of the evaluated rows."""
    outcomes: dict[str, Outcome]
    """By model or baseline."""

    def gaps(self, model: str, baseline: str) -> dict[str, Gap]:
        """How much worse a model is than a baseline, in log loss and in ROC-AUC, by the paired bootstrap."""
        weight = log_pos_weight_of(self.label)
        pair = [Logits.of_one_fit(self.outcomes[name].natural, weight) for name in (baseline, model)]
        differences = paired_bootstrap(self.label, pair[0], pair[1], _N_REPLICATES).differences
        return {
            metric: Gap(sign * d.difference, (d.high - d.low) / (2 * _QUANTILE))
            for metric, sign in (("logloss", 1.0), ("roc_auc", -1.0))
            for d in (differences[metric],)
        }

    @property
    def models(self) -> list[str]:
        """The names of our models."""
        return [name for name in self.outcomes if name in model_names()]

    @property
    def best(self) -> str:
        """Our model with the lowest log loss."""
        return min(self.models, key=lambda name: self.outcomes[name].metrics.logloss or np.inf)


def compare(source: Source, n_rows: int, folder: Path, models: list[str], seed: int = 0) -> Result:
    """Runs the baselines and our models; finished runs in the folder are read again.

    Args:
        source: the data set.
        n_rows: how many of its first rows to take.
        folder: of the rows, the runs and the baselines.
        models: names of our models; those that need columns which the data set lacks are left out.
        seed: chooses the folds and the initial weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw, config = folder / "train.parquet", folder / "config.yaml"
    if not raw.is_file():
        pq.write_table(source.read(n_rows).slice(0, n_rows), folder / "train.tmp")
        (folder / "train.tmp").rename(raw)
    name = f"{source.name}-{n_rows}"
    values = {"name": name, "files": {"train": [raw.name]}, "schema": source.schema()}
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    settings = load_rank_config(config, "dcnv2", _seeds(seed))
    dataset = PreparedDataset.open(prepare_raw(settings.data, [str(raw)], [], [], folder / "prepared"))
    splits = [split for split in dataset.split_names if split.startswith("fold_")]
    if n_rows >= N_BASELINE_FOLDS_FROM:
        splits = splits[:1]
    fold = np.full(dataset.n_rows, -1)
    for number, split in enumerate(splits):
        fold[dataset.split(split).held_out_rows.numbers()] = number
    rows = np.flatnonzero(fold >= 0)
    label = dataset.store.labels(np.arange(dataset.n_rows)).astype(np.int8)
    outcomes = {}
    for baseline, natural in _baselines(source, raw, label, fold, folder / _BASELINES_FILE).items():
        outcomes[baseline] = Outcome.of(label[rows], natural[rows])
    for model in (name for name in models if _has_roles(config, name)):
        outcomes[model] = Outcome.of(label[rows], _fit(config, model, dataset, splits, folder, seed)[rows])
    return Result(name, dataset.n_rows, label[rows], outcomes)


def is_finished(folder: Path, models: list[str]) -> bool:
    """Whether a folder has the baselines and the runs of all models but those whose columns the data set lacks."""
    config = folder / "config.yaml"
    return (folder / _BASELINES_FILE).is_file() and all(
        is_done(folder / model) or not _has_roles(config, model) for model in models
    )


def _seeds(seed: int) -> list[str]:
    """The overrides that set the seeds of folds and of training."""
    return [f"prepare.seed={seed}", f"trainer.seed={seed}"]


def _has_roles(config: Path, model: str) -> bool:
    """Whether the data set has the columns that a model needs: DIN and OneTrans need behaviours and a target item."""
    settings = load_rank_config(config, model, [])
    try:
        settings.check_roles()
    except InputError:
        console.print(f"{settings.data.name}: no columns for {model}")
        return False
    return True


def _baselines(source: Source, raw: Path, label: np.ndarray, fold: np.ndarray, cache: Path) -> dict[str, np.ndarray]:
    """[n] logits of every baseline."""
    if not cache.is_file():
        columns = Columns(source, pq.read_table(raw))
        with console.status(f"{cache.parent.name}  baselines"):
            p = [out_of_fold(columns, label, fold, fit) for fit in BASELINES.values()]
        np.save(cache.with_suffix(".tmp.npy"), np.stack(p))
        cache.with_suffix(".tmp.npy").rename(cache)
    cached = np.load(cache, allow_pickle=False)
    return {name: logit_of(np.clip(p, _SMALLEST, 1 - _SMALLEST)) for name, p in zip(BASELINES, cached, strict=True)}


def _fit(config: Path, model: str, dataset: PreparedDataset, splits: list[str], folder: Path, seed: int) -> np.ndarray:
    """[n] logits of our model with default settings, NaN for rows of other folds."""
    world = join_world()
    settings = resolve_settings(load_rank_config(config, model, _seeds(seed)), dataset, splits, world)
    run = RunFolder(folder / model, describe(settings, dataset, splits))
    if not run.is_done:
        execute(run, settings, dataset, splits, world)
    predictions = read_predictions(run.folder)
    natural = np.full(dataset.n_rows, np.nan)
    natural[np.asarray(predictions.row_id.cast("int64"))] = predictions.logits.natural
    return natural
