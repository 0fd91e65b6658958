"""A small raw data set with every kind of column, its schema, and a function that prepares it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

SMALL_SCHEMA = {
    "label": "click",
    "id": "id",
    "day": "day",
    "categorical": ["color", "shop"],
    "numeric": ["x_*"],
    "sequences": {
        "seen": {"kind": "delimited", "max_length": 5},
        "steps": {"kind": "columns", "columns": ["x_*"]},
    },
    "segments": {
        "user": {"kind": "length", "sequence": "seen", "edges": [2], "labels": ["new", "returning"]},
        "color": {"kind": "value", "column": "color"},
    },
}


def small_table(n: int = 2000, seed: int = 0) -> pa.Table:
    """Rows with every kind of column, including nulls; the click depends on color and x_1."""
    rng = np.random.default_rng(seed)
    color = rng.choice(["red", "green", "blue", "grey"], n, p=[0.5, 0.3, 0.19, 0.01])
    x_1 = rng.normal(size=n)
    p = 1 / (1 + np.exp(-(1.5 * (color == "red") + x_1 - 1.5)))
    lengths = rng.integers(0, 9, n)
    seen = [",".join(map(str, rng.integers(0, 30, k))) for k in lengths]
    null = rng.random(n) < 0.05
    return pa.table(
        {
            "id": [f"row-{i}" for i in range(n)],
            "day": rng.integers(1, 8, n),
            "color": pa.array(color, mask=rng.random(n) < 0.02),
            "shop": rng.zipf(1.8, n).clip(max=500).astype(np.float32),
            "x_1": pa.array(x_1.astype(np.float32), mask=null),
            "x_2": pa.array(np.exp(rng.normal(size=n)).astype(np.float32), mask=null),
            "x_10": rng.integers(0, 5, n).astype(np.int16),
            "seen": seen,
            "click": (rng.random(n) < p).astype(np.int8),
        }
    )


def small_schema(**changes: object) -> SchemaConfig:
    return SchemaConfig.model_validate(SMALL_SCHEMA | changes)


def prepare_small(
    table: pa.Table, folder: Path, out: Path, schema: SchemaConfig | None = None, **settings: object
) -> PreparedDataset:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "train.parquet", row_group_size=300)
    config = PrepareConfig.model_validate({"min_count": 3} | settings)
    prepare(schema or small_schema(), RawFiles(train=("train.parquet",)), config, folder, out, "small")
    return PreparedDataset.open(out)
