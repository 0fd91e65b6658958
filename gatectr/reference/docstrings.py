"""The docstrings under the fields of a class, read from its source."""

import ast
import inspect
from functools import cache
from itertools import pairwise
from types import ModuleType


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def field_docstrings(kind: type) -> dict[str, str]:
    """The docstring of each annotated field of a class and its bases, as one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        module = inspect.getmodule(base)
        if module is None or module.__name__ == "builtins" or module.__name__.startswith("pydantic"):
            continue
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                found |= _of_body(node.body)
    return found


def _of_body(body: list[ast.stmt]) -> dict[str, str]:
    found = {}
    for statement, after in pairwise(body):
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if is_field and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(statement, ast.AnnAssign)
            assert isinstance(statement.target, ast.Name)
            found[statement.target.id] = " ".join(str(after.value.value).split())
    return found
