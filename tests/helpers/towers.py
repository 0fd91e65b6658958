"""A small data set with two towers, and a two-tower model on it."""

import numpy as np
import pyarrow as pa
import torch

from recsys.data.dataset import PreparedDataset
from retrieval.two_tower import TwoTower, TwoTowerConfig
from tests.helpers.sharded import with_tables

TOWERS = {"user": ["color", "seen", "x_*"], "item": ["shop", "brand"]}


def tower_table(n: int = 3000, seed: int = 0) -> pa.Table:
    """Rows whose shop is drawn by popularity times taste: users with tokens below 10 prefer even shops."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, 2, n)
    popular = 1 / np.arange(1, 41)
    weight = popular * np.where((np.arange(40) % 2)[None, :] == taste[:, None], 4.0, 0.25)
    weight /= weight.sum(axis=1, keepdims=True)
    shop = (rng.random(n)[:, None] > weight.cumsum(axis=1)).sum(axis=1)
    lengths = rng.integers(1, 8, n)
    tokens = [",".join(map(str, 10 * t + rng.integers(0, 10, k))) for t, k in zip(taste, lengths, strict=True)]
    return pa.table(
        {
            "id": [f"row-{i}" for i in range(n)],
            "day": rng.integers(1, 8, n),
            "color": rng.choice(["red", "green"], n),
            "shop": shop.astype(np.int32),
            "brand": (shop % 5).astype(np.int32),
            "x_1": rng.normal(size=n).astype(np.float32),
            "x_2": rng.normal(size=n).astype(np.float32),
            "seen": tokens,
            "click": (rng.random(n) < 0.3).astype(np.int8),
        }
    )


def tower_schema(**changes: object) -> dict[str, object]:
    return {
        "categorical": ["color", "shop", "brand"],
        "sequences": {"seen": {"kind": "delimited", "max_length": 5}},
        "target_item": "shop",
        "towers": TOWERS,
        **changes,
    }


TINY = {"embedding_dim": 4, "output_dim": 6, "user_hidden_dims": (8,), "item_hidden_dims": (8,), "dropout": 0.0}


def towers(dataset: PreparedDataset, **changes: object) -> TwoTower:
    torch.manual_seed(0)
    config = TwoTowerConfig.model_validate(TINY | changes)
    split = dataset.split("holdout" if "holdout" in dataset.split_names else "full")
    return with_tables(TwoTower(config, split.schema)).eval()
