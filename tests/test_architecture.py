"""Imports between packages, subpackages and files have no cycles; private names stay in their module."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("recsys", "retrieval", "ranking", "serving", "pipelines", "gatectr", "benchmarks")
MAY_IMPORT = {
    "recsys": set(),
    "retrieval": {"recsys"},
    "ranking": {"recsys"},
    "serving": {"recsys", "retrieval", "ranking"},
    "pipelines": {"recsys", "retrieval", "ranking", "serving"},
    "gatectr": {"recsys", "retrieval", "ranking", "pipelines"},
    "benchmarks": {"recsys", "retrieval", "ranking", "serving", "pipelines"},
}
BASE = {"errors", "patterns", "config", "defaults", "own_code"}
SUBPACKAGES = {
    "system": BASE,
    "schema": BASE,
    "evaluation": BASE,
    "report": BASE | {"evaluation"},
    "data": BASE | {"system", "schema"},
    "synthetic": BASE | {"system", "evaluation", "data"},
    "raw": BASE | {"system", "schema", "data"},
    "prepare": BASE | {"system", "schema", "data", "raw", "evaluation"},
    "nn": BASE | {"schema", "data"},
    "distributed": BASE | {"system", "nn"},
    "training": BASE | {"system", "evaluation", "data", "nn", "distributed"},
    "runs": BASE | {"system", "schema", "evaluation", "report", "data", "raw", "prepare", "nn"},
}
"""What each subpackage of recsys/ may import besides itself."""
SERVING = {"runtime": set(), "server": {"runtime"}, "export": {"runtime"}}
"""What each subpackage of serving/ may import of the others."""
MAX_LINES, MAX_FILES, MAX_TOP_LEVEL = 300, 15, 5


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages, by its dotted name."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def imports_of(name: str) -> frozenset[str]:
    """Modules of the packages that a module imports: at its top, inside functions, or only for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & modules().keys()) or {node.module}
    return frozenset(found & modules().keys())


def subpackage_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    names = [name for name in modules() if name.split(".")[0] == package]
    assert names
    for name in names:
        imported = {other.split(".")[0] for other in imports_of(name)} - {package}
        assert imported <= MAY_IMPORT[package], name


def test_every_subpackage_is_listed() -> None:
    subpackages = {subpackage_of(name) for name in modules() if name.startswith("recsys.")}
    assert subpackages == SUBPACKAGES.keys() | BASE


@pytest.mark.parametrize("subpackage", SUBPACKAGES)
def test_subpackages_import_one_way(subpackage: str) -> None:
    for name in modules():
        if name.startswith(f"recsys.{subpackage}.") or name == f"recsys.{subpackage}":
            imported = {subpackage_of(other) for other in imports_of(name)} - {subpackage}
            assert imported <= SUBPACKAGES[subpackage], name


@pytest.mark.parametrize("subpackage", SERVING)
def test_answering_requests_needs_no_ranking_model(subpackage: str) -> None:
    for name in [name for name in modules() if name.startswith(f"serving.{subpackage}")]:
        imported = {other for other in imports_of(name) if not other.startswith(("recsys", f"serving.{subpackage}"))}
        assert {subpackage_of(other) for other in imported if other.startswith("serving")} <= SERVING[subpackage], name
        assert subpackage == "export" or not any(other.startswith("ranking") for other in imported), name


def test_no_subpackage_imports_a_later_one() -> None:
    seen = set(BASE)
    for subpackage, allowed in SUBPACKAGES.items():
        assert allowed <= seen, subpackage
        seen.add(subpackage)


def test_no_circular_imports() -> None:
    def reached_from(name: str) -> set[str]:
        seen: set[str] = set()
        todo = list(imports_of(name))
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += imports_of(other)
        return seen

    assert [name for name in modules() if name in reached_from(name)] == []


def foreign_private_names(path: Path) -> list[str]:
    """Private names that a file imports from other modules of the packages."""
    tree, taken, aliases = ast.parse(path.read_text(encoding="utf-8")), [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            taken += [alias.name for alias in node.names if alias.name.startswith("_")]
            aliases |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" in modules()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            taken += [node.attr] if node.attr.startswith("_") else []
    return taken


def test_no_module_uses_private_names_of_another() -> None:
    for path in modules().values():
        assert foreign_private_names(path) == [], path


def test_these_modules_need_no_torch() -> None:
    evaluation = [name for name in sorted(modules()) if name.startswith("recsys.evaluation")]
    names = [*evaluation, "recsys.report.html", "recsys.prepare.run", "recsys.synthetic", "recsys.runs.predictions"]
    names += [name for name in sorted(modules()) if name.startswith(("serving.runtime", "serving.server"))]
    lines = [f"import {name}; assert 'torch' not in sys.modules, {name!r}" for name in names]
    code = "\n".join(["import sys", *lines])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_and_folders_stay_small() -> None:
    folders = {path.parent for path in modules().values()}
    for folder in folders:
        assert len(list(folder.glob("*.py"))) <= MAX_FILES, folder
    for path in [*modules().values(), *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path
    top_level = [path for path in (ROOT / "recsys").glob("*.py") if path.name != "__init__.py"]
    assert len(top_level) <= MAX_TOP_LEVEL


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", [p for p in CONFIGS if not p.stem.startswith("plan")], ids=lambda path: path.stem)
def test_committed_configs_are_valid(path: Path) -> None:
    from pipelines.common.config import load_rank_config, load_retrieval_config

    data = load_retrieval_config(path, []).data
    assert path.stem.startswith(data.name)  # the name of its base
    if data.schema_.label is not None:
        assert load_rank_config(path, "dcnv2", []).data == data


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.startswith("plan")], ids=lambda path: path.stem)
def test_committed_plans_are_valid(path: Path, tmp_path: Path) -> None:
    from pipelines.plan.command import check_settings
    from pipelines.plan.config import load_plan
    from pipelines.plan.state import PlanState

    plan = load_plan(path, ("config=toss.yaml",) if path.stem == "plan_own" else ())
    assert {step.step for step in plan.steps} == set(range(1, 10))
    check_settings(PlanState(plan, tmp_path))
