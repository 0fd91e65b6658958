"""Settings that are auto: the numbers on the first lines of a run and in its config.yaml."""

from pathlib import Path

import pytest
import yaml

from recsys.defaults import AUTO
from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--folds", "0", "--out", "a")


@pytest.fixture
def columns_only(project: Path) -> Path:
    """The project with a config that names columns only."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    kept = {key: config[key] for key in ("name", "files", "schema", "prepare")}
    Path("config.yaml").write_text(yaml.safe_dump(kept))
    return project


def test_a_run_shows_and_records_its_numbers(columns_only: Path, run: Run) -> None:
    outcome = run(*RANK, "--model", "dcnv2")
    assert outcome.code == 0, outcome.err
    n_steps = -(-round(0.9 * (2000 * 2 // 3)) // 64)  # about two thirds of the rows, less a tenth that is monitored
    recorded = yaml.safe_load(Path("a/config.yaml").read_text())
    trainer = recorded["trainer"]
    assert f"batch 64, {trainer['epochs']} epochs of " in outcome.out
    assert abs(int(outcome.out.split(" epochs of ")[1].split()[0]) - n_steps) <= 1
    assert f"learning rate {trainer['learning_rate']:g}, stops by logloss" in " ".join(outcome.out.split())
    assert trainer["batch_size"] == 64
    assert trainer["early_stopping"]["validation_fraction"] == 0.1
    assert recorded["model"]["hidden_dims"] == [64, 32]
    assert AUTO not in [v for k, v in trainer.items() if k != "loss"]


def test_numbers_of_the_config_and_auto_on_the_command_line(columns_only: Path, run: Run) -> None:
    config = yaml.safe_load(Path("config.yaml").read_text())
    Path("config.yaml").write_text(yaml.safe_dump(config | {"trainer": {"batch_size": 500, "epochs": 1}}))
    assert "batch 500, 1 epoch of" in run(*RANK, "--model", "dcnv2").out
    outcome = run(*RANK[:-1], "b", "--model", "dcnv2", "trainer.batch_size=auto")
    assert "batch 64, 1 epoch of" in outcome.out


def test_trees_have_sizes_of_their_own(columns_only: Path, run: Run) -> None:
    outcome = run(*RANK, "--model", "gbdt")
    assert outcome.code == 0, outcome.err
    model = yaml.safe_load(Path("a/config.yaml").read_text())["model"]
    assert f"up to {model['n_trees']:,} trees of {model['num_leaves']} leaves" in outcome.out
    assert AUTO not in model.values()


def test_baselines_stand_below_the_model(columns_only: Path, run: Run) -> None:
    outcome = run(*RANK, "--model", "gbdt", "model.n_trees=1", "model.learning_rate=1e-6")
    assert "constant rate" in outcome.out
    assert "the model does not beat the " in " ".join(outcome.out.split())
