"""The frequency threshold that follows the number of rows."""

from pathlib import Path

import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.defaults import AUTO
from recsys.prepare.run import prepare
from tests.helpers.small import prepare_small, small_schema, small_table


@pytest.mark.parametrize("threshold", [None, 7])
def test_auto_is_two_for_few_rows_and_a_number_stays(tmp_path: Path, threshold: int | None) -> None:
    prepare_small(small_table(500), tmp_path / "raw", tmp_path / "other")
    config = PrepareConfig() if threshold is None else PrepareConfig(min_count=threshold)
    prepare(small_schema(), RawFiles(train=("train.parquet",)), config, tmp_path / "raw", tmp_path / "out", "small")
    dataset = PreparedDataset.open(tmp_path / "out")
    shop = dataset.vocabularies["shop"]
    assert shop.min_count == (threshold or 2)
    assert (threshold or 2) <= shop.counts.sum(axis=1).min() < 10
    assert dataset.manifest.prepare.min_count == (threshold or AUTO)
