"""The site builds without a warning, and has the generated pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatectr.reference.pages import import_graph, settings_page, without_detours
from pipelines.common.config import sections

ROOT = Path(__file__).parents[2]


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING -" not in done.stderr
    settings = (tmp_path / "site/reference/settings/index.html").read_text(encoding="utf-8")
    assert "trainer.early_stopping.patience" in settings
    assert "recsys_data" in (tmp_path / "site/architecture/index.html").read_text(encoding="utf-8")
    assert "CTRClassifier" in (tmp_path / "site/reference/api/index.html").read_text(encoding="utf-8")


def test_every_section_has_its_settings() -> None:
    page = settings_page()
    for name, models in sections().items():
        if models and name not in ("run", "show_sharding"):
            assert f"## {name}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 250
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 6, row


def test_arrows_that_a_longer_path_implies_are_left_out() -> None:
    assert without_detours([("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]) == [("a", "b"), ("a", "d"), ("b", "c")]


def test_the_diagram_has_the_imports() -> None:
    diagram = import_graph(ROOT)
    assert "  gatectr --> pipelines\n" in diagram
    assert "ranking --> retrieval" not in diagram
    assert "retrieval --> ranking" not in diagram
