"""Runs the converter."""

from pathlib import Path

import pytest

from tests.helpers.commands import Run
from tests.helpers.public_data import Convert


@pytest.fixture
def converted(run: Run, tmp_path: Path) -> Convert:
    """`converted("criteo", source)` returns the folder that the command wrote."""

    def convert(name: str, source: Path) -> Path:
        outcome = run("convert", name, "--source", source, "--out", tmp_path / "out")
        assert outcome.code == 0, outcome.err
        return tmp_path / "out"

    return convert
