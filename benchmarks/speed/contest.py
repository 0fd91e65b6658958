"""What all contenders of a speed contest share: the task, the rows in memory, and what they report."""

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
from ranking.gbdt import GBDTConfig
from ranking.model_config import DeepModelConfig
from ranking.models import config_class
from ranking.xdeepfm import XDeepFMConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.training.config import TrainerConfig


@dataclass(frozen=True)
class Task:
    """Train this model on these rows."""

    prepared: str
    """A prepared data set."""
    split: str
    """Its fitting rows are trained on; its held-out or `valid` rows are evaluated."""
    model: dict[str, Any]
    """The values of a deep model's config."""
    trainer: dict[str, Any]
    """A TrainerConfig's values."""
    target: float | None = None
    """ROC-AUC to stop at; None trains all epochs."""

    def settings(self) -> tuple[DeepModelConfig, TrainerConfig]:
        """The model's and the trainer's."""
        model = config_class(self.model["name"]).model_validate(self.model)
        assert not isinstance(model, GBDTConfig)
        return model, TrainerConfig.model_validate(self.trainer)

    def open(self) -> tuple[Split, Rows]:
        """The split, and the rows to evaluate on."""
        split = PreparedDataset.open(Path(self.prepared)).split(self.split)
        return split, split.evaluation_rows["valid"] if self.split == "full" else split.held_out_rows


@dataclass
class Score:
    """What a contender reports."""

    rows_per_s: float
    """Over its training epochs, without evaluation."""
    waiting: float | None = None
    """Share of that time spent waiting for batches."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """After each epoch: seconds since training began, evaluation included, and ROC-AUC."""
    private_gib: float = 0.0
    """Memory of its own at the end, without pages of mapped files."""

    def time_to(self, target: float) -> float | None:
        """Seconds until the ROC-AUC was first reached."""
        return next((seconds for seconds, auc in self.curve if auc >= target), None)


@dataclass(frozen=True)
class Arrays:
    """Encoded rows in memory, as a user without a data path of their own would hold them."""

    ids: np.ndarray
    """[n, F] int64."""
    dense: np.ndarray
    """[n, N] float32."""
    sequences: list[np.ndarray]
    """Of each sequence in turn, [n, max_length] int64 ids from 1 on, padded with 0, and float32 values."""
    label: np.ndarray
    """[n] float32."""

    def __len__(self) -> int:
        return len(self.label)


def load(split: Split, rows: Rows, sequences: Sequence[str]) -> Arrays:
    """Reads all rows."""
    parts: dict[str, list[np.ndarray]] = {"ids": [], "dense": [], "label": []}
    padded: list[list[np.ndarray]] = [[] for _ in range(2 * len(sequences))]
    longest = {s.name: s.max_length for s in split.schema.token_sequences}
    longest |= {s.name: len(s.columns) for s in split.schema.column_sequences}
    for block in rows.blocks():
        batch = split.batch(block, sequences)
        n = len(batch)
        parts["ids"].append(batch.sparse.values().view(-1, n).T.numpy().astype(np.int64))
        parts["dense"].append(batch.dense.numpy())
        parts["label"].append(batch.label.numpy())
        for number, name in enumerate(sequences):
            found = batch.sequences[name]
            is_there = np.arange(longest[name]) < found.lengths().numpy()[:, None]
            tokens, values = np.zeros(is_there.shape, np.int64), np.zeros(is_there.shape, np.float32)
            tokens[is_there] = found.values().numpy() + 1
            values[is_there] = 1.0 if found.weights_or_none() is None else found.weights().numpy()
            padded[2 * number].append(tokens)
            padded[2 * number + 1].append(values)
    whole = {key: np.concatenate(value) for key, value in parts.items()}
    return Arrays(**whole, sequences=[np.concatenate(part) for part in padded])


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
    """Runs epochs until the target is reached or all are done.

    Args:
        train_epoch: trains one epoch.
        predict: logits of the held-out rows.
        label: theirs.
        n_rows: of an epoch.
        task: the number of epochs and the target.
    """
    began, trained, curve = time.perf_counter(), 0.0, []
    for _ in range(task.trainer["epochs"]):
        start = time.perf_counter()
        train_epoch()
        trained += time.perf_counter() - start
        auc = float(roc_auc_score(label, predict()))
        curve.append((time.perf_counter() - began, auc))
        if task.target is not None and auc >= task.target:
            break
    return Score(n_rows * len(curve) / trained, curve=curve, private_gib=private_gib())


def private_gib() -> float:
    """Resident memory of this process alone: without mapped files, where the system tells."""
    memory = psutil.Process().memory_info()
    return (memory.rss - getattr(memory, "shared", 0)) / 2**30


class Batches(Dataset[tuple[Tensor, ...]]):
    """Whole batches by a list of rows: DataLoader's one-by-one collation would take longer than the training step."""

    def __init__(self, arrays: Arrays) -> None:
        self._tensors = [torch.from_numpy(a) for a in (arrays.label, arrays.ids, arrays.dense, *arrays.sequences)]

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        index = torch.tensor(rows)
        return tuple(tensor[index] for tensor in self._tensors)
