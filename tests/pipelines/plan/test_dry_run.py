"""Short trials of a dry run: samples of the rows that a model is fitted to."""

from pathlib import Path

import numpy as np

from pipelines.common.config import load_rank_config
from pipelines.plan.dry_run.estimates import try_speed
from recsys.system.world import join_world
from tests.helpers.small import prepare_small, small_table


def test_a_sample_may_have_fewer_rows_than_all_rows_have_clicks(tmp_path: Path) -> None:
    """The learning rate that is `auto` follows the clicks of the sample, of which there are at most 128."""
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out")
    assert int(dataset.store.labels(np.arange(dataset.n_rows)).sum()) > 2 * 64
    (tmp_path / "config.yaml").write_text("name: small\nschema: {label: click, categorical: [color]}\n")
    settings = load_rank_config(tmp_path / "config.yaml", "dcnv2", ["trainer.batch_size=64"])
    speed = try_speed(settings, dataset, join_world())
    assert speed.row_round_s > 0
