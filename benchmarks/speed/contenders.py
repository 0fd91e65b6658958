"""Runs one contender in this process: `python -m benchmarks.speed.contenders NAME TASK.json`.

The last printed line is the contender's Score as JSON, without the predictions: those are in `PREDICTIONS_FILE` beside
the task.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from benchmarks.speed import two_tower
from benchmarks.speed.contest import Batches, Score, Task, load, private_gib, race, sequences_of
from benchmarks.speed.plain_models import plain_model
from ranking.dcnv2 import DCNv2Config
from ranking.models import build_model
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import join_world
from recsys.training.log import Log
from recsys.training.trainer import Trainer

PREDICTIONS_FILE = "predictions.npy"


class _Curve(Log):
    """Records the time, the ROC-AUC and the logits of each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[float, float]] = []
        self.predictions: list[np.ndarray] = []
        self.start = time.perf_counter()

    def scalar(self, tag: str, value: float, step: int) -> None:
        if tag == "monitor/roc_auc":
            self.points.append((time.perf_counter() - self.start, value))

    def curves(self, tag: str, label: np.ndarray, logit: np.ndarray, step: int) -> None:
        self.predictions.append(logit)


def ours(task: Task) -> Score:
    """Trains with this project's Trainer, as the pipelines do."""
    keep_freed_memory()
    model_config, config = task.settings()
    split, held_out_rows = task.open()
    torch.manual_seed(config.seed)
    model, log, world = build_model(model_config, split.schema), _Curve(), join_world()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(world.broadcast(folder)) / "weights"
        trainer = Trainer(model, split, held_out_rows, config, weights, log, world, "ours")
        log.start = time.perf_counter()
        report = trainer.fit()
        world.broadcast(None)
    epochs = report.progress.epochs
    seconds = sum(epoch.seconds for epoch in epochs)
    waiting = sum(epoch.waited_s for epoch in epochs) / seconds
    return Score(report.n_rows * len(epochs) / seconds, waiting, log.points, private_gib(), log.predictions)


def plain(task: Task) -> Score:
    """Trains with plain PyTorch: float32, torch.optim.AdamW for all parameters, a DataLoader with workers."""
    config, settings = task.settings()
    split, held_out_rows = task.open()
    sequences = sequences_of(config, split)
    arrays, held_out = load(split, split.fit_rows, sequences), load(split, held_out_rows, sequences)
    torch.manual_seed(settings.seed)
    model = plain_model(config, split.schema)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    weight = split.prior.pos_weight if settings.loss.pos_weight == "auto" else settings.loss.pos_weight
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight))
    dataset = Batches(arrays)
    sampler = BatchSampler(RandomSampler(range(len(arrays))), settings.batch_size, drop_last=False)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=2)

    def train_epoch() -> None:
        model.train()
        for label, *features in loader:
            optimizer.zero_grad()
            loss_of(model(*features), label).backward()
            optimizer.step()

    @torch.no_grad()
    def predict() -> np.ndarray:
        model.eval()
        row_blocks = np.array_split(np.arange(len(held_out)), -(-len(held_out) // settings.eval_batch_size))
        batches = Batches(held_out)
        return torch.cat([model(*batches[block.tolist()][1:]) for block in row_blocks]).numpy()

    return race(train_epoch, predict, held_out.label, len(arrays), task)


def deepctr(task: Task) -> Score:
    """Trains DeepCTR-Torch's model of the same name with that library's `fit`."""
    from benchmarks.speed.deepctr_models import build_peer

    config, settings = task.settings()
    split, held_out_rows = task.open()
    sequences = sequences_of(config, split)
    arrays, held_out = load(split, split.fit_rows, sequences), load(split, held_out_rows, sequences)
    peer = build_peer(config, split.schema, settings.seed)
    peer.model.compile(torch.optim.Adam(peer.model.parameters(), lr=settings.learning_rate), "binary_crossentropy")
    x, y = peer.inputs(arrays), arrays.label

    def train_epoch() -> None:
        peer.model.fit(x, y, batch_size=settings.batch_size, epochs=1, verbose=0)

    def predict() -> np.ndarray:
        return peer.model.predict(peer.inputs(held_out), settings.eval_batch_size)[:, 0]

    return race(train_epoch, predict, held_out.label, len(arrays), task)


def limit(task: Task) -> Score:
    """Times a step's matrix products alone, in bfloat16: forward, input gradients and weight gradients."""
    config, settings = task.settings()
    assert isinstance(config, DCNv2Config)
    split, _ = task.open()
    n_sequences = len(split.schema.token_sequences) if config.pool_sequences else 0
    width = (len(split.schema.categorical) + n_sequences) * config.embedding_dim + len(split.schema.dense)
    shapes = [(width, width)] * config.cross_depth
    shapes += list(zip([width, *config.hidden_dims], config.hidden_dims, strict=False))
    products: list[Callable[[], Tensor]] = []
    for d_in, d_out in shapes:
        x, w = (torch.randn(*size).bfloat16() for size in ((settings.batch_size, d_in), (d_out, d_in)))
        g = torch.randn(settings.batch_size, d_out).bfloat16()
        products += [lambda x=x, w=w: x @ w.T, lambda g=g, w=w: g @ w, lambda g=g, x=x: g.T @ x]  # type: ignore[misc]
    times = []
    for _ in range(12):
        start = time.perf_counter()
        for product in products:
            product()
        times.append(time.perf_counter() - start)
    return Score(settings.batch_size / float(np.median(times[2:])))


CONTENDERS = {
    "ours": ours,
    "plain": plain,
    "deepctr": deepctr,
    "limit": limit,
    "two_tower": two_tower.ours,
    "two_tower_plain": two_tower.plain,
}


def main() -> None:
    """Runs the contender and the task named on the command line."""
    console.quiet = True
    name, path = sys.argv[1], Path(sys.argv[2])
    score = CONTENDERS[name](Task(**json.loads(path.read_text())))
    if os.environ.get("RANK", "0") == "0":
        np.save(path.with_name(PREDICTIONS_FILE), np.array(score.predictions))
        print(json.dumps(asdict(replace(score, predictions=[]))), flush=True)


if __name__ == "__main__":
    main()
