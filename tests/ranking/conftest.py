"""What the tests of every model share."""

import pytest

from recsys.dataset import PreparedDataset
from tests.conftest import prepare_small, small_schema, small_table


@pytest.fixture(scope="session")
def with_target(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The small data set with a candidate: the shop, whose table its own sequence does not share."""
    folder = tmp_path_factory.mktemp("target")
    schema = small_schema(target_item="shop")
    return prepare_small(small_table(), folder / "raw", folder / "prepared", schema)
