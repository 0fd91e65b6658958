"""Rows per second of training: by the trainer, by a step alone, and by plain PyTorch.

Shapes: B rows of a batch.
"""

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.card import Profile, profiled, seconds_per_run
from benchmarks.speed.contest import Batches, load, sequences_of
from benchmarks.speed.plain_models import plain_model
from ranking.model_config import DeepModelConfig
from ranking.models import build_model
from recsys.data.rows import ListedRows
from recsys.data.split import Split
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.predict import evaluate
from recsys.training.trainer import Trainer
from retrieval.catalog import build_catalog
from retrieval.config import RetrievalTrainerConfig
from retrieval.fit import build_retrieval_trainer
from retrieval.two_tower import TwoTowerConfig


@dataclass(frozen=True)
class Case:
    """A model to train at one batch size."""

    model: DeepModelConfig | TwoTowerConfig
    batch_size: int
    trainer: dict[str, Any] = field(default_factory=dict)
    """Settings of the trainer."""


@dataclass(frozen=True)
class TrainerRates:
    """Speed of the trainer and of its step alone."""

    trainer: float
    """Rows/s of an epoch, from prepared data."""
    step: float
    """Rows/s of the step on one batch that is on the device."""
    loss: float
    """Mean loss of the last epoch."""
    peak_gib: float | None
    """Most memory of the device in use; None without a GPU."""
    profile: Profile | None


def make_trainer(case: Case, split: Split, world: World, n_epochs: int, folder: Path) -> Trainer:
    """Builds a trainer that keeps its last weights."""
    torch.manual_seed(0)
    changes = {"epochs": n_epochs, "batch_size": case.batch_size, "early_stopping": None, "checkpoint_every_s": 1e9}
    settings, weights, name = changes | case.trainer, folder / "weights", case.model.name
    if isinstance(case.model, TwoTowerConfig):
        towers, rows = RetrievalTrainerConfig.model_validate(settings), split.fit_rows
        catalog = build_catalog(split, rows, [], is_clicked_only=False)
        return build_retrieval_trainer(
            case.model, towers, "all", split, rows, catalog, None, None, weights, Log(), world, name
        )
    model = build_model(case.model.resolved(split.size(world.device.type)), split.schema)
    return Trainer(model, split, None, TrainerConfig.model_validate(settings), weights, Log(), world, name)


def trainer_rates(case: Case, split: Split, world: World, n_steps: int) -> TrainerRates:
    """Trains two epochs and measures the second, then `n_steps` steps on one batch."""
    device = world.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(case, split, world, 2, Path(folder))
        report = trainer.fit()
    epoch = report.progress.epochs[-1]
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    trainer.model.train()
    batches = itertools.repeat(next(iter(trainer.loader(0))).to(device))
    n_rows = min(case.batch_size, report.n_rows)

    def step() -> None:
        trainer.update(batches, n_rows)

    seconds = seconds_per_run(step, 3, n_steps, device)
    counted = profiled(step, 3, device)
    return TrainerRates(report.n_rows / epoch.seconds, n_rows / seconds, epoch.loss, peak, counted)


def parity(case: Case, split: Split, world: World) -> dict[str, float]:
    """Trains two epochs the plain way, in fp32 with batches from the host, and the fast way; returns both results.

    Returns:
        By name: mean loss of the last epoch and ROC-AUC of the held-out rows.
    """
    results: dict[str, float] = {}
    plain = {"precision": "fp32", "data": "host", "compile": "off"}
    fast = {"precision": "bf16", "data": "resident", "compile": "on"}
    for name, settings in (("fp32", plain), ("fast", fast)):
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(replace(case, trainer=settings), split, world, 2, Path(folder))
            report = trainer.fit()
            logits = trainer.predict(split.held_out_rows, "scoring")
        metrics = evaluate(logits, split, split.held_out_rows, report.link)
        assert metrics.roc_auc is not None
        results |= {f"{name}_loss": report.progress.epochs[-1].loss, f"{name}_roc_auc": metrics.roc_auc}
    return results


def plain_rate(
    case: Case, split: Split, device: torch.device, *, is_compiled: bool, is_graphed: bool, n_steps: int
) -> float:
    """Returns the rows/s of plain PyTorch's step in bf16, with AdamW, on one batch that is on the device."""
    torch.manual_seed(0)
    assert not isinstance(case.model, TwoTowerConfig)
    config = case.model.resolved(split.size(device.type))
    model = plain_model(config, split.schema).to(device).train()
    names = sequences_of(config, split)
    rows = ListedRows(np.sort(split.fit_rows(np.arange(min(case.batch_size, len(split.fit_rows))))))
    arrays = load(split, rows, names)
    label, *inputs = (tensor.to(device) for tensor in Batches(arrays)[list(range(len(arrays)))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=device.type == "cuda")
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(50.0, device=device))
    forward: Callable[..., torch.Tensor] = torch.compile(model) if is_compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = forward(*inputs)
        loss_of(logits.float(), label).backward()
        optimizer.step()

    run = _graphed(step) if is_graphed and device.type == "cuda" else step
    return len(rows) / seconds_per_run(run, 4, n_steps, device)


def _graphed(step: Callable[[], None]) -> Callable[[], None]:
    """Records a step as a CUDA graph; returns what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
