"""Every experiment of docs/results.md runs as printed, on thinned data and for one epoch."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.docs.conftest import DOCS, text_of, text_of_blocks

N_ROWS = 12_000
DATA_SETS = ("frappe_x1", "kuairand_pure_sample", "ml-1m")
SHIM = f"""#!{sys.executable}
import os, sys
arguments = sys.argv[1:]
shorter = {{
    "pipelines.generate": ["--rows", "{N_ROWS}"],
    "pipelines.rank": ["trainer.epochs=1"],
}}
arguments += shorter.get(arguments[1], [])
os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])
"""
"""`python` with options that make a command shorter; the last value of an option counts."""
EXPERIMENTS = [text for text in text_of_blocks(text_of("results.md"), ("bash",)) if "benchmarks." not in text]
"""Benchmarks measure speed, for minutes each: tests/docs/test_commands.py parses them, their own tests run them."""


def thin(source: Path, target: Path) -> None:
    """Copies the files of a data set, with at most `N_ROWS` of the rows of a file of ratings or impressions."""
    target.mkdir()
    for path in source.glob("*.parquet"):
        table = pq.read_table(path)
        if path.stem in ("ratings", "interactions", "train", "valid", "test"):
            table = table.take(pa.array(np.unique(np.linspace(0, len(table) - 1, N_ROWS).astype(np.int64))))
        pq.write_table(table, target / path.name)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, public_data: Path) -> Path:
    """A folder with the configs, a shorter `python`, and thinned data."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "configs").symlink_to(DOCS.parent / "configs")
    (folder / "bin").mkdir()
    shim = folder / "bin/python"
    shim.write_text(SHIM)
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    (folder / "public").mkdir()
    for name in DATA_SETS:
        thin(public_data / name, folder / "public" / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXPERIMENTS)))
def test_an_experiment_runs_as_printed(number: int, workplace: Path) -> None:
    environment = os.environ | {
        "PATH": f"{workplace / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(DOCS.parent),
        "GATECTR_DATA": str(workplace / "public"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", EXPERIMENTS[number]], cwd=workplace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
