"""Data sets shared by the tests."""

import os
from pathlib import Path

import pytest

from recsys.data.dataset import PreparedDataset
from recsys.synthetic import GeneratorConfig, generate
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.towers import tower_schema, tower_table


@pytest.fixture(scope="session")
def with_target(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The small data set with shop as the target item; shop and seen have separate embedding tables."""
    folder = tmp_path_factory.mktemp("target")
    schema = small_schema(target_item="shop")
    return prepare_small(small_table(), folder / "raw", folder / "prepared", schema)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("small")
    return prepare_small(small_table(), folder / "raw", folder / "prepared")


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The small data set with two towers."""
    folder = tmp_path_factory.mktemp("shops")
    return prepare_small(tower_table(), folder / "raw", folder / "prepared", small_schema(**tower_schema()))


@pytest.fixture(scope="session")
def toss_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60,000 generated rows, generated once per test session."""
    return generate(GeneratorConfig(n_rows=60_000), tmp_path_factory.mktemp("toss") / "data")


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public data sets; skips the test if GATECTR_DATA is not set."""
    folder = os.environ.get("GATECTR_DATA")
    if not folder:
        pytest.skip("GATECTR_DATA is not set to a folder of public data sets")
    return Path(folder)
