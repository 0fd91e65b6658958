"""Fixtures that run pipelines in this process, as `python -m pipelines.NAME` does."""

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.common.cli import run_pipeline
from tests.helpers.commands import Outcome, Run
from tests.helpers.small import SMALL_SCHEMA, small_table

Kept = Callable[[Callable[[], None]], None]
"""`kept(make)` leaves in the project what `make` wrote in that of the module's first test; `make` runs once."""

COMMANDS = {
    "generate": "generate_command",
    "prepare": "prepare_command",
    "rank": "rank",
    "compare": "compare",
    "sweep": "sweep",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("rank", "--model", "dcnv2")` returns the exit code and the printed text."""

    def run_in_process(name: str, *args: str | Path) -> Outcome:
        module = importlib.import_module("pipelines.plan.command" if name == "plan" else f"pipelines.{name}")
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            run_pipeline(getattr(module, COMMANDS.get(name, name)))
        printed = capsys.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run_in_process


@pytest.fixture(scope="module")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's first test keeps a copy of its project."""
    return tmp_path_factory.mktemp("kept") / "project"


@pytest.fixture
def kept(project: Path, first_project: Path) -> Kept:
    def made_once(make: Callable[[], None]) -> None:
        if first_project.exists():
            shutil.copytree(first_project, project, dirs_exist_ok=True)
        else:
            make()
            shutil.copytree(project, first_project)

    return made_once


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with raw/train.parquet and a config.yaml of tiny models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    pq.write_table(small_table(), tmp_path / "raw" / "train.parquet")
    config = {
        "name": "small",
        "files": {"train": ["train.parquet"]},
        "schema": SMALL_SCHEMA,
        "prepare": {"min_count": 3, "n_folds": 3},
        "models": {"dcnv2": {"model": {"embedding_dim": 4, "hidden_dims": [16]}, "trainer": {"learning_rate": 0.01}}},
        "trainer": {"epochs": 3, "batch_size": 100},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path
