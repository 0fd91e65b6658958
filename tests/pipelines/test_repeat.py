"""The config.yaml of a run folder repeats the run."""

from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from recsys.data.dataset import PreparedDataset
from tests.helpers.commands import Run

DATA = ("--config", "config.yaml", "--data", "raw")


@pytest.mark.parametrize(
    "settings",
    [
        ("--model", "dcnv2", "--folds", "0,2", "features.leave_out=[shop]", "trainer.epochs=1"),
        ("--model", "gbdt", "--folds", "holdout", "model.n_trees=20", "trainer.seed=3"),
    ],
    ids=["dcnv2", "gbdt"],
)
def test_a_run_repeats_from_its_config(project: Path, run: Run, settings: tuple[str, ...]) -> None:
    first = run("rank", *DATA, *settings, "--out", "first")
    assert first.code == 0, first.err
    Path("config.yaml").unlink()
    again = run("rank", "--config", "first/config.yaml", "--out", "again")
    assert again.code == 0, again.err
    assert Path("again/oof.csv").read_bytes() == Path("first/oof.csv").read_bytes()


def test_config_records_where_a_run_comes_from(project: Path, run: Run) -> None:
    assert run("rank", "--model", "dcnv2", *DATA, "--folds", "0", "--out", "out", "trainer.epochs=1").code == 0
    section = yaml.safe_load(Path("out/config.yaml").read_text())["run"]
    assert section["command"].startswith("python -m pipelines.rank --model dcnv2 --config config.yaml")
    assert section["command"].endswith("--folds 0 --out out trainer.epochs=1")
    assert section["versions"]["gatectr"] == version("gatectr")
    assert {"torch", "torchrec", "numpy"} <= section["versions"].keys()
    assert any(package.startswith("fbgemm") for package in section["versions"])
    dataset = PreparedDataset.open(Path(section["data"]["folder"]))
    assert section["data"]["fingerprint"] == dataset.manifest.fingerprint
    assert section["splits"] == ["fold_0"]


def test_a_config_of_changed_data_is_refused(project: Path, run: Run) -> None:
    assert run("rank", "--model", "dcnv2", *DATA, "--folds", "0", "--out", "out", "trainer.epochs=1").code == 0
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    config["run"]["data"]["fingerprint"] = "0" * 64
    Path("changed.yaml").write_text(yaml.safe_dump(config))
    outcome = run("rank", "--config", "changed.yaml", "--out", "again")
    assert outcome.code == 2
    assert config["run"]["data"]["folder"] in outcome.err
    assert "--data" in outcome.err
