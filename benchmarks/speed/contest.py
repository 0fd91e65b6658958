"""Shared parts of the speed contenders: the task, rows in memory, the training race, and the score.

Shapes: F categorical features, N numeric columns.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import Dataset

from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.model_config import DeepModelConfig
from ranking.models import config_class
from ranking.trees.config import GBDTConfig
from ranking.xdeepfm import XDeepFMConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.evaluation.comparison import Difference, paired_bootstrap
from recsys.evaluation.logits import Logits
from recsys.training.config import TrainerConfig

_N_REPLICATES = 300


@dataclass(frozen=True)
class Task:
    """A model to train, and the rows to train it on."""

    prepared: str
    """Folder of a prepared data set."""
    split: str
    """Name of the split: trains on its fitting rows, evaluates on its held-out or `valid` rows."""
    model: dict[str, Any]
    """Values of a deep model's config."""
    trainer: dict[str, Any]
    """Values of a TrainerConfig."""
    target: float | None = None
    """ROC-AUC to stop at; None trains all epochs."""

    def settings(self) -> tuple[DeepModelConfig, TrainerConfig]:
        """The configs of the model and of the trainer, with values for settings that are `auto`."""
        model = config_class(self.model["name"]).model_validate(self.model)
        assert not isinstance(model, GBDTConfig)
        size = self.open()[0].size("cpu")
        return model.resolved(size), TrainerConfig.model_validate(self.trainer).resolved(size)

    def label(self) -> np.ndarray:
        """Labels of the evaluation rows."""
        split, rows = self.open()
        return split.store.labels(rows.numbers())

    def open(self) -> tuple[Split, Rows]:
        """The split, and the evaluation rows."""
        split = PreparedDataset.open(Path(self.prepared)).split(self.split)
        return split, split.evaluation_rows["valid"] if self.split == "full" else split.held_out_rows


@dataclass
class Score:
    """Measurements of a contender."""

    rows_per_s: float
    """Over the training epochs, without evaluation."""
    waiting: float | None = None
    """Share of the training time spent waiting for batches."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """After each epoch: seconds since the start of training, including evaluation, and ROC-AUC."""
    private_gib: float = 0.0
    """Private memory at the end, without pages of mapped files."""
    predictions: list[np.ndarray] = field(default_factory=list)
    """After each epoch: [rows] logits of the held-out rows."""

    def time_to(self, target: float) -> float | None:
        """Seconds until the ROC-AUC first reaches the target; None if it never does."""
        return next((seconds for seconds, auc in self.curve if auc >= target), None)


@dataclass(frozen=True)
class Arrays:
    """Encoded rows in memory, as plain PyTorch code holds them."""

    ids: np.ndarray
    """[n, F] int64."""
    dense: np.ndarray
    """[n, N] float32."""
    sequences: list[np.ndarray]
    """Two arrays per sequence: [n, max_length] int64 ids from 1 on, padded with 0, and float32 values."""
    label: np.ndarray
    """[n] float32."""

    def __len__(self) -> int:
        return len(self.label)


def load(split: Split, rows: Rows, sequences: Sequence[str]) -> Arrays:
    """Reads rows into memory."""
    blocks: dict[str, list[np.ndarray]] = {"ids": [], "dense": [], "label": []}
    padded: list[list[np.ndarray]] = [[] for _ in range(2 * len(sequences))]
    max_lengths = {s.name: s.max_length for s in split.schema.token_sequences}
    max_lengths |= {s.name: len(s.columns) for s in split.schema.column_sequences}
    for block in rows.blocks():
        batch = split.batch(block, sequences)
        n = len(batch)
        blocks["ids"].append(batch.sparse.values().view(-1, n).T.numpy().astype(np.int64))
        blocks["dense"].append(batch.dense.numpy())
        blocks["label"].append(batch.label.numpy())
        for number, name in enumerate(sequences):
            jagged = batch.sequences[name]
            is_event = np.arange(max_lengths[name]) < jagged.lengths().numpy()[:, None]
            tokens, values = np.zeros(is_event.shape, np.int64), np.zeros(is_event.shape, np.float32)
            tokens[is_event] = jagged.values().numpy() + 1
            values[is_event] = 1.0 if jagged.weights_or_none() is None else jagged.weights().numpy()
            padded[2 * number].append(tokens)
            padded[2 * number + 1].append(values)
    arrays = {key: np.concatenate(value) for key, value in blocks.items()}
    return Arrays(**arrays, sequences=[np.concatenate(sequence_blocks) for sequence_blocks in padded])


def sequences_of(config: DeepModelConfig, split: Split) -> list[str]:
    """The sequences that a model reads."""
    tokens = [s.name for s in split.schema.token_sequences]
    if isinstance(config, DINConfig):
        return [*tokens, *(s.name for s in split.schema.column_sequences)]
    assert isinstance(config, DCNv2Config | XDeepFMConfig | FTTransformerConfig)
    return tokens if config.pool_sequences else []


def race(
    train_epoch: Callable[[], None], predict: Callable[[], np.ndarray], label: np.ndarray, n_rows: int, task: Task
) -> Score:
    """Trains epochs until the ROC-AUC reaches the target or all epochs are done.

    Args:
        train_epoch: trains one epoch.
        predict: returns the logits of the held-out rows.
        label: labels of the held-out rows.
        n_rows: rows of an epoch.
        task: has the number of epochs and the target.
    """
    race_start, training_s, curve, predictions = time.perf_counter(), 0.0, [], []
    for _ in range(task.trainer["epochs"]):
        epoch_start = time.perf_counter()
        train_epoch()
        training_s += time.perf_counter() - epoch_start
        predictions.append(predict())
        auc = float(roc_auc_score(label, predictions[-1]))
        curve.append((time.perf_counter() - race_start, auc))
        if task.target is not None and auc >= task.target:
            break
    rows_per_s = n_rows * len(curve) / training_s
    return Score(rows_per_s, curve=curve, private_gib=private_gib(), predictions=predictions)


@dataclass(frozen=True)
class Rounds:
    """The scores of one contender, each with another seed."""

    scores: list[Score]

    @property
    def best(self) -> Score:
        """The fastest round."""
        return max(self.scores, key=lambda score: score.rows_per_s)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """After each epoch: seconds and ROC-AUC, the means over rounds."""
        means = np.mean([score.curve for score in self.scores], axis=0)
        return [(float(seconds), float(auc)) for seconds, auc in means.reshape(-1, 2)]

    def time_to(self, target: float) -> float | None:
        """Seconds until the mean ROC-AUC first reaches the target; None if it never does."""
        return Score(0.0, curve=self.curve).time_to(target)

    def gain_over(self, other: "Rounds", label: np.ndarray, epoch: int) -> Difference:
        """The gain in ROC-AUC over another contender after an epoch, with an interval that holds rows and seeds.

        Args:
            other: the contender.
            label: labels of the held-out rows.
            epoch: its number, from 0.
        """
        first, second = (
            [Logits.of_one_fit(score.predictions[epoch].astype(np.float64), 0.0) for score in rounds.scores]
            for rounds in (other, self)
        )
        return paired_bootstrap(label, first, second, n_replicates=_N_REPLICATES).differences["roc_auc"]


def private_gib() -> float:
    """Resident memory of this process in GiB, without shared pages (mapped files) where the system reports them."""
    memory = psutil.Process().memory_info()
    return (memory.rss - getattr(memory, "shared", 0)) / 2**30


class Batches(Dataset[tuple[Tensor, ...]]):
    """Data set of batches, indexed by lists of row numbers: collating single rows takes longer than a training step."""

    def __init__(self, arrays: Arrays) -> None:
        self._tensors = [torch.from_numpy(a) for a in (arrays.label, arrays.ids, arrays.dense, *arrays.sequences)]

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        index = torch.tensor(rows)
        return tuple(tensor[index] for tensor in self._tensors)
