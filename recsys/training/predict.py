"""Logits of rows, and their metrics.

Shapes: B rows of a batch.
"""

import numpy as np
import torch
from torch import nn

from recsys.data.resident.loader import AnyBatches, open_loader
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import Metrics, measure
from recsys.nn.precision import Precision, autocast
from recsys.nn.traits import sequences_of
from recsys.system.progress import progress_line
from recsys.system.world import World


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: AnyBatches,
    rows: Rows,
    batch_size: int,
    precision: Precision,
    world: World,
    name: str = "scoring",
    is_shown: bool = True,
) -> np.ndarray:
    """Computes [n] float32 logits of all rows, in order, on every process.

    Args:
        model: `forward(batch) -> [B] logits`, with sharded tables; attribute `sequences` lists its sequence features.
        batches: makes batches of the rows: a split, or its rows on the device.
        rows: the rows to score.
        batch_size: rows per batch, over all processes.
        precision: precision of the matrix products.
        world: the processes, all of which must call this function.
        name: label of the progress line.
        is_shown: whether to show the progress line.
    """
    model.eval()
    loader = open_loader(batches, rows, batch_size, sequences_of(model), world=world)
    logits = torch.zeros(len(rows), device=world.device)
    with progress_line(name, len(rows), world.is_main and is_shown) as line:
        for index, batch in enumerate(loader):
            share = loader.positions(index)
            with autocast(world.device, precision):
                batch_logits = model(batch.to(world.device)).float()
            logits[share.start : share.stop] = batch_logits[: len(share)]
            line.advance(len(batch) * world.size)
    return world.all_reduce(logits).cpu().numpy()


def evaluate(logits: np.ndarray, split: Split, rows: Rows, link: LogitLink) -> Metrics:
    """Metrics of rows, given [n] model logits."""
    numbers = rows.numbers()
    return measure(split.store.labels(numbers), link.logits(logits), split.store.weights(numbers))
