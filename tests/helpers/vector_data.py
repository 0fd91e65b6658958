"""Impressions of items with a vector, whose hidden direction decides the click rate, and items that training never saw.

Shapes: I items, d numbers of a vector.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

SIZE, N_ITEMS, N_COLD = 8, 1000, 400
"""Numbers of a vector; items; items of test rows only."""
SCHEMA: dict[str, Any] = {
    "label": "click",
    "split": "split",
    "categorical": ["item", "device"],
    "numeric": ["price"],
    "sequences": {"seen": {"kind": "list", "max_length": 4, "vocabulary": "item"}},
    "target_item": "item",
}


def item_vectors(seed: int = 0) -> np.ndarray:
    """The [I, d] float32 vectors, with a scale of its own for each number."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(N_ITEMS, SIZE)) * 10.0 ** rng.integers(-2, 3, SIZE)).astype(np.float32)


def click_logits(vectors: np.ndarray) -> np.ndarray:
    """The [I] logits of items: twice the hidden direction of their vectors, which mixes their numbers' signs."""
    standardized = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    return -1 + 2 * standardized @ np.where(np.arange(SIZE) % 2, 1.0, -1.0) / SIZE**0.5


def vector_table(n: int = 6000, seed: int = 0) -> pa.Table:
    """Rows of known items, four fifths of them training rows, then half as many test rows of cold items."""
    rng = np.random.default_rng([seed, 1])
    known = rng.integers(0, N_ITEMS - N_COLD, n)
    cold = rng.integers(N_ITEMS - N_COLD, N_ITEMS, n // 2)
    item = np.concatenate([known, cold])
    split = np.where(rng.random(n) < 0.8, "train", "test").tolist() + ["test"] * (n // 2)
    vectors = item_vectors()
    seen = [rng.integers(0, N_ITEMS - N_COLD, length) for length in rng.integers(0, 4, len(item))]
    probability = 1 / (1 + np.exp(-click_logits(vectors)[item]))
    return pa.table(
        {
            "item": [f"item-{number}" for number in item],
            "device": rng.choice(["phone", "desktop"], len(item)),
            "price": rng.normal(size=len(item)).astype(np.float32),
            "seen": [[f"item-{number}" for number in numbers] for numbers in seen],
            "image": list_column(vectors[item]),
            "split": split,
            "click": (rng.random(len(item)) < probability).astype(np.int8),
        }
    )


def list_column(values: np.ndarray, size: int | None = None) -> pa.Array:
    """A fixed-size list column of [n, d] numbers; of [n * d / size, size] for another size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size or values.shape[1])


def vector_schema(**changes: Any) -> SchemaConfig:
    """The schema, with the vector column."""
    return SchemaConfig.model_validate(SCHEMA | {"vectors": ["image"]} | changes)


def prepare_vectors(table: pa.Table, folder: Path, schema: SchemaConfig | None = None, **settings: Any) -> Path:
    """Writes a table and its config, and prepares them; returns the prepared folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "rows.parquet")
    config = PrepareConfig.model_validate({"n_folds": 2, "min_count": 1} | settings)
    files, schema = RawFiles(train=("rows.parquet",)), schema or vector_schema()
    data = {"name": "vectors", "files": files.model_dump(), "schema": schema.model_dump(mode="json")}
    (folder / "config.yaml").write_text(yaml.safe_dump(data | {"prepare": config.model_dump(mode="json")}))
    return prepare(schema, files, config, folder, folder / "prepared", "vectors")


def prepared_vectors(table: pa.Table, folder: Path, schema: SchemaConfig | None = None) -> PreparedDataset:
    """Prepares a table and opens the result."""
    return PreparedDataset.open(prepare_vectors(table, folder, schema))


N_TASTES = 6


def taste_table(n: int = 6000, seed: int = 0) -> pa.Table:
    """Choices of users whose taste is a direction of the items' vectors: training rows of known items, test rows of
    all items. The user is known by a group of users alone, the direction and the scale of numbers are hidden."""
    rng = np.random.default_rng([seed, 2])
    vectors = item_vectors()
    standardized = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    preference = np.exp(2 * standardized @ rng.normal(size=(SIZE, N_TASTES)) / SIZE**0.5)
    taste, is_test = rng.integers(0, N_TASTES, n), rng.random(n) < 0.3
    preference = np.stack([preference, preference * (np.arange(N_ITEMS) < N_ITEMS - N_COLD)[:, None]])
    cumulative = (preference / preference.sum(axis=1, keepdims=True)).cumsum(axis=1)  # of all items, of known items
    item = (rng.random(n)[:, None] > cumulative[np.where(is_test, 0, 1), :, taste]).sum(axis=1)
    return pa.table(
        {
            "group": [f"group-{number}" for number in taste],
            "item": [f"item-{number}" for number in item.clip(max=N_ITEMS - 1)],
            "image": list_column(vectors[item.clip(max=N_ITEMS - 1)]),
            "split": np.where(is_test, "test", "train").tolist(),
        }
    )
