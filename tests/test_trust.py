"""No code unpickles or evaluates user input."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("recsys", "ranking", "retrieval", "pipelines", "gatectr", "benchmarks")
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load"), ("pd", "read_pickle")}
# The index of a checkpoint is a pickle: its unpickler allows only descriptions of tensors.
ALLOWED = {Path("recsys/training/checkpoint.py"): {"pickle"}}


def faults(tree: ast.AST, allowed: set[str]) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES - allowed]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module in FORBIDDEN_MODULES - allowed else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in FORBIDDEN_CALLS else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if (owner, node.func.attr) in FORBIDDEN_ATTRIBUTES:
                found.append(f"{owner}.{node.func.attr}")
            if (owner, node.func.attr) == ("np", "load"):
                pickles = keywords.get("allow_pickle")
                is_safe = isinstance(pickles, ast.Constant) and pickles.value is False
                found += [] if is_safe else ["np.load without allow_pickle=False"]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_code_unpickles_or_evaluates(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = faults(ast.parse(path.read_text(encoding="utf-8")), ALLOWED.get(path.relative_to(ROOT), set()))
        assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "code", ["import pickle", "eval('1')", "torch.load('a')", "np.load('a')", "np.load('a', allow_pickle=True)"]
)
def test_forbidden_code_is_found(code: str) -> None:
    assert faults(ast.parse(code), set())
