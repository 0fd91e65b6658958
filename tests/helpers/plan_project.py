"""A small project with a plan of every kind of step."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.helpers.small import SMALL_SCHEMA, small_table

PLAN = yaml.safe_load((Path(__file__).parents[1] / "pipelines" / "small_plan.yaml").read_text())
ARGUMENTS = ("plan", "--config", "plan.yaml", "--data", "raw")
"""The command line in the project's folder."""


def make_project(folder: Path) -> None:
    """raw/ with a test file, config.yaml and plan.yaml."""
    (folder / "raw").mkdir()
    pq.write_table(small_table(1200), folder / "raw/train.parquet")
    test = small_table(500, seed=9).drop_columns(["click", "id"])
    pq.write_table(test.append_column("id", pa.array([f"t-{i}" for i in range(500)])), folder / "raw/test.parquet")
    tiny = {"embedding_dim": 4, "hidden_dims": [8]}
    config = {
        "name": "small",
        "files": {"train": ["train.parquet"], "test": ["test.parquet"]},
        "schema": SMALL_SCHEMA
        | {
            "target_item": "shop",
            "crosses": {"cross_shop": ["color", "shop"]},
            "towers": {"user": ["seen", "x_*"], "item": ["shop"], "context": ["color"]},
        },
        "prepare": {"min_count": 3, "n_folds": 3, "folds": {"tuning_share": 0.2, "n_windows": 2}},
        "features": {"leave_out": ["cross_*"]},
        "models": {"dcnv2": {"model": tiny}, "din": {"model": tiny | {"attention_dims": [4]}}},
        "trainer": {"batch_size": 200},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
