"""Imports run one way: recsys <- retrieval, ranking <- pipelines, and the maths needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "recsys": {"retrieval", "ranking", "pipelines"},
    "retrieval": {"ranking", "pipelines"},
    "ranking": {"retrieval", "pipelines"},
    "pipelines": set(),
}


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported_packages(path) & FORBIDDEN[package], path


@pytest.mark.parametrize(
    "module",
    [
        "recsys.evaluation.metrics",
        "recsys.evaluation.logits",
        "recsys.evaluation.verdicts",
        "recsys.report.html",
        "recsys.prepare.run",
        "recsys.synthetic",
    ],
)
def test_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", [p for p in CONFIGS if not p.stem.startswith("plan")], ids=lambda path: path.stem)
def test_committed_configs_are_valid(path: Path) -> None:
    from pipelines.common.config import load_rank_config, load_retrieval_config

    assert path.stem.startswith(load_rank_config(path, "dcnv2", []).data.name)  # a base gives its name
    assert path.stem.startswith(load_retrieval_config(path, []).data.name)


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.startswith("plan")], ids=lambda path: path.stem)
def test_committed_plans_are_valid(path: Path, tmp_path: Path) -> None:
    from pipelines.plan.command import check_settings
    from pipelines.plan.config import load_plan
    from pipelines.plan.state import PlanState

    plan = load_plan(path, ())
    assert {step.step for step in plan.steps} == set(range(1, 10))
    check_settings(PlanState(plan, tmp_path))
