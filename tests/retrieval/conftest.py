"""A small data set with two towers: what a user saw before decides which shop is shown."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from tests.conftest import prepare_small, small_schema

TOWERS = {"user": ["color", "seen", "x_*"], "ad": ["shop", "brand"]}


def tower_table(n: int = 3000, seed: int = 0) -> pa.Table:
    """Rows whose shop is drawn by popularity x taste: tokens below 10 are of those who like even shops."""
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
            "day": [str(d) for d in rng.integers(1, 8, n)],
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


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("shops")
    return prepare_small(tower_table(), folder / "raw", folder / "prepared", small_schema(**tower_schema()))


@pytest.fixture(scope="session")
def film_log(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Users who watch films in a circle: film f is followed by f + 1, so that the next one can be known."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    user, film, time = [], [], []
    for number in range(120):
        start, length = rng.integers(0, 12), rng.integers(4, 15)
        user += [number] * length
        film += [int((start + step) % 12) for step in range(length)]
        time += list(range(length))
    n = len(user)
    table = pa.table({"user": user, "film": film, "time": time, "click": rng.integers(0, 2, n).astype(np.int8)})
    schema = small_schema(
        id=None,
        day=None,
        categorical=["user", "film"],
        numeric=[],
        segments={},
        split={"key": "user", "order": "time"},
        sequences={
            "watched": {"kind": "log", "key": "user", "item": "film", "order": "time", "max_length": 6, "ties": "file"}
        },
        target_item="film",
        towers={"user": ["watched"], "ad": ["film"]},
    )
    return prepare_small(table, folder / "raw", folder / "prepared", schema, min_count=1)
