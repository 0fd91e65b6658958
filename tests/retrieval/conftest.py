"""A small data set for two towers: a user's history determines the next film."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from tests.helpers.small import prepare_small, small_schema


@pytest.fixture(scope="session")
def film_log(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Users who watch 12 films in a cycle: film f + 1 follows film f, so the next film is predictable."""
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
        towers={"user": ["watched"], "item": ["film"]},
    )
    return prepare_small(table, folder / "raw", folder / "prepared", schema, min_count=1)
