"""Generated rows shared by the generator's tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def train(toss_folder: Path) -> pa.Table:
    return pq.read_table(toss_folder / "train.parquet")


@pytest.fixture(scope="module")
def truth(toss_folder: Path) -> dict[str, pa.Table]:
    table = pq.read_table(toss_folder / "truth.parquet")
    return {split: table.filter(pc.equal(table["split"], split)) for split in ("train", "test")}


@pytest.fixture(scope="module")
def p(truth: dict[str, pa.Table]) -> np.ndarray:
    return truth["train"]["p"].to_numpy()
