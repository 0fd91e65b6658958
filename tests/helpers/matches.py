"""Impressions that are clicked if the item is among the user's events, however long ago."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from recsys.data.dataset import PreparedDataset
from tests.helpers.small import prepare_small, small_schema

N_ROWS, N_TRAIN, N_ITEMS, N_EVENTS = 6000, 5000, 30, 40
SCHEMA = {
    "id": None,
    "categorical": ["item", "color"],
    "numeric": ["x"],
    "sequences": {"seen": {"kind": "list", "max_length": N_EVENTS, "vocabulary": "item"}},
    "segments": {},
    "target_item": "item",
}


def match_table(is_recent: bool, seed: int = 0) -> pa.Table:
    """Rows of random histories; half of the items are in theirs, in the last three events or among all earlier ones."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, N_ITEMS, N_ROWS)
    other = (item[:, None] + rng.integers(1, N_ITEMS, (N_ROWS, N_EVENTS))) % N_ITEMS  # never the item
    place = rng.integers(N_EVENTS - 3, N_EVENTS, N_ROWS) if is_recent else rng.integers(0, N_EVENTS - 3, N_ROWS)
    is_match = rng.random(N_ROWS) < 0.5
    other[is_match, place[is_match]] = item[is_match]
    return pa.table(
        {
            "day": rng.integers(1, 8, N_ROWS),
            "item": item,
            "color": rng.choice(["red", "green"], N_ROWS),
            "x": rng.normal(size=N_ROWS).astype(np.float32),
            "seen": pa.array(list(other), pa.list_(pa.int64())),
            "click": (rng.random(N_ROWS) < np.where(is_match, 0.9, 0.1)).astype(np.int8),
        }
    )


def prepare_matches(folder: Path, is_recent: bool) -> PreparedDataset:
    return prepare_small(match_table(is_recent), folder / "raw", folder / "prepared", small_schema(**SCHEMA))


def auc_after_training(model: nn.Module, dataset: PreparedDataset, n_steps: int) -> float:
    """The ROC-AUC of the last rows of a model that is trained on the others; that of the true rates is .9."""
    split, sequences = dataset.split("full"), ("seen",)
    optimizer, rng = torch.optim.Adam(model.parameters(), 0.01), np.random.default_rng(0)
    model.train()
    for _ in range(n_steps):
        batch = split.batch(np.sort(rng.choice(N_TRAIN, 500, replace=False)), sequences)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(batch), batch.label.float()).backward()
        optimizer.step()
    batch = split.batch(np.arange(N_TRAIN, N_ROWS), sequences)
    with torch.no_grad():
        return float(roc_auc_score(batch.label.numpy(), model.eval()(batch).numpy()))
