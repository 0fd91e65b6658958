"""A raw data set with every form of column that a request may have, and finished runs of tiny models on it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipelines.prepare import prepare_command
from pipelines.rank import rank

SCHEMA: dict[str, Any] = {
    "label": "click",
    "day": "day",
    "categorical": ["color", "shop", "code", "flag", "when", "size"],
    "numeric": ["x_*", "time_ms", "is_new"],
    "sequences": {
        "seen": {"kind": "delimited", "max_length": 5, "keep": "last", "statistics": True},
        "bought": {"kind": "list", "max_length": 4, "keep": "last", "vocabulary": "shop"},
        "steps": {"kind": "columns", "columns": ["x_*"]},
    },
    "crosses": {"color_shop": ["color", "shop"]},
    "encodings": {
        "color": ["count", "ctr"],
        "shop*size": ["ctr", "past_ctr"],
        "shop": ["past_ctr", "past_count"],
        "seen": ["count", "ctr"],
        "bought": ["ctr"],
    },
    "encodings_past": {"order": "day"},
    "vectors": ["image", "profile"],
    "derived": {"relative": "x_2 / x_10", "second": "cyclic(time_ms, 60000)", "turn": "cyclic(size, 9)"},
    "target_item": "shop",
    "towers": {"user": ["color", "seen", "bought", "x_*", "profile"], "item": ["shop", "size", "image"]},
}
_TREES = ["model.n_trees=20", "model.min_data_in_leaf=20", "trainer.trees_per_epoch=10"]
SETTINGS = {
    "dcnv2": ["model.embedding_dim=4", "model.hidden_dims=[8]"],
    "xdeepfm": ["model.embedding_dim=4", "model.hidden_dims=[8]", "model.cin_dims=[6,4]"],
    "ft_transformer": ["model.d_model=8", "model.n_heads=2", "model.n_layers=1", "model.numeric_tokens=linear"],
    "din": ["model.embedding_dim=4", "model.hidden_dims=[8]", "model.attention_dims=[6]"],
    "onetrans": ["model.embedding_dim=4", "model.d_model=8", "model.n_feature_tokens=3", "model.long_pooling=sdim"],
    "finalmlp": [
        "model.embedding_dim=4",
        "model.hidden_dims=[8]",
        "model.second_hidden_dims=[6]",
        "model.second_context=[shop]",
    ],
    "qnn": ["model.embedding_dim=4"],
    "tabm": ["model.embedding_dim=4", "model.hidden_dims=[8]", "model.n_members=3"],
    "dcnv2-periodic": ["model.embedding_dim=4", "model.hidden_dims=[8]", "model.numeric_embeddings=periodic"],
    "xdeepfm-bins": [
        "model.embedding_dim=4",
        "model.hidden_dims=[8]",
        "model.cin_dims=[6,4]",
        "model.numeric_embeddings=piecewise_linear",
    ],
    "din-quantized": [
        "model.embedding_dim=4",
        "model.hidden_dims=[8]",
        "model.numeric_embeddings=quantized",
        "trainer.learning_rate=0.05",
    ],
    "gbdt": _TREES,
    "gbdt-xgboost": [*_TREES, "model.library=xgboost"],
    "gbdt-catboost": ["model.n_trees=20", "trainer.trees_per_epoch=10", "model.library=catboost"],
}
ITEM_COLUMNS = ("shop", "size", "x_2", "image")
"""The columns of candidates in the tests; the others are the user's."""


def table(n: int = 1500, seed: int = 0) -> pa.Table:
    """Rows with nulls, empty histories, large numbers, times and booleans; the click depends on color and x_1."""
    rng = np.random.default_rng(seed)
    color = rng.choice(["red", "green", "blü", " grey "], n, p=[0.5, 0.3, 0.15, 0.05])
    x_1 = rng.normal(size=n)
    p = 1 / (1 + np.exp(-(1.5 * (color == "red") + x_1 - 1)))
    null = rng.random(n) < 0.05
    start = datetime(2025, 1, 1)
    whens = [start + timedelta(hours=int(hour)) for hour in rng.integers(0, 5, n)]
    shops = rng.zipf(1.7, n).clip(max=60).astype(np.float32)
    bought = [rng.zipf(1.7, k).clip(max=80).tolist() for k in rng.integers(0, 7, n)]
    return pa.table(
        {
            "day": rng.integers(1, 8, n),
            "color": pa.array(color, mask=rng.random(n) < 0.03),
            "shop": pa.array(shops, mask=rng.random(n) < 0.03),
            "code": 2**60 + rng.integers(0, 6, n),
            "flag": pa.array(rng.random(n) < 0.4, mask=rng.random(n) < 0.03),
            "when": pa.array(whens, pa.timestamp("us")),
            "size": pa.array(rng.integers(0, 9, n).astype(np.int8)),
            "x_1": pa.array(x_1.astype(np.float32), mask=null),
            "x_2": pa.array(np.exp(rng.normal(size=n)), mask=null),
            "x_10": rng.integers(0, 5, n).astype(np.int16),
            "time_ms": 1_735_689_600_000 + rng.integers(0, 60_000, n),
            "is_new": pa.array(rng.random(n) < 0.3, mask=rng.random(n) < 0.03),
            "seen": [",".join(map(str, rng.integers(0, 30, k))) for k in rng.integers(0, 9, n)],
            "bought": pa.array(bought, pa.list_(pa.int64())),
            "click": (rng.random(n) < p).astype(np.int8),
            "image": vectors(4, n, seed),
            "profile": vectors(3, n, seed + 1),
        }
    )


def vectors(size: int, n: int, seed: int) -> pa.Array:
    """Vectors of single-precision numbers, some of them null."""
    rng = np.random.default_rng([seed, size])
    values = rng.normal(size=(n, size)).astype(np.float32)
    is_null = rng.random(n) < 0.1
    rows = [None if null else row for row, null in zip(values, is_null, strict=True)]
    return pa.array(rows, pa.list_(pa.float32()))


def unseen_rows(n: int = 120) -> pa.Table:
    """Rows to score, with values that no training row has, nulls, NaN, infinite numbers and empty histories."""
    rows = table(n, seed=7)
    shop = np.where(np.arange(n) % 9 == 0, 9999, rows["shop"].to_numpy()).astype(np.float32)
    x_2 = rows["x_2"].to_numpy().copy()
    x_2[::11], x_2[1::11], x_2[2::11] = np.nan, 1e300, -np.inf
    seen = [None if i % 8 == 0 else "" if i % 8 == 1 else text for i, text in enumerate(rows["seen"].to_pylist())]
    bought = [
        None if i % 7 == 0 else [i, None, 3] if i % 7 == 1 else of for i, of in enumerate(rows["bought"].to_pylist())
    ]
    color = ["violet" if i % 10 == 0 else value for i, value in enumerate(rows["color"].to_pylist())]
    changed = {
        "shop": pa.array(shop),
        "x_2": pa.array(x_2),
        "seen": pa.array(seen),
        "bought": pa.array(bought, pa.list_(pa.int64())),
        "color": pa.array(color),
    }
    columns = {name: changed.get(name, rows[name]) for name in rows.column_names}
    return pa.table(columns).drop_columns(["click", "day"])


def prepare_data(folder: Path, **schema: Any) -> Path:
    """Writes the training rows and the config, and prepares them; returns the prepared folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(), folder / "train.parquet", row_group_size=300)
    pq.write_table(unseen_rows(), folder / "test.parquet")
    config = {
        "name": "serving",
        "files": {"train": ["train.parquet"], "folder": str(folder)},
        "schema": SCHEMA | schema,
        "prepare": {"min_count": 3, "n_folds": 3},
        "trainer": {"epochs": 1, "batch_size": 200, "early_stopping": None},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    prepare_command(train=[str(folder / "train.parquet")], config=folder / "config.yaml", out=folder / "prepared")
    return folder / "prepared"


def train(model: str, prepared: Path, out: Path, *settings: str, folds: str = "0") -> Path:
    """Trains a tiny model in fp32; returns the run folder."""
    name = model.partition("-")[0]
    precision = [] if name == "gbdt" else ["trainer.precision=fp32"]
    rank(model=name, data=prepared, out=out, folds=folds, overrides=[*SETTINGS[model], *precision, *settings])
    return out


def as_json(rows: list[Any]) -> list[Any]:
    """Rows as a client sends them: times as text, and no numbers that JSON lacks."""

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of(entry) for entry in value]
        if isinstance(value, float) and (np.isnan(value) or np.isinf(value)):
            return None if np.isnan(value) else float(np.copysign(1e300, value))
        return value.isoformat() if hasattr(value, "isoformat") else value

    return [{name: value_of(value) for name, value in row.items()} for row in rows]
