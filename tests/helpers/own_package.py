"""A package of the user's own in a project folder, as a process sees it that has not imported it."""

import shutil
from pathlib import Path

import pytest

from recsys import own_code


def add_package(project: Path, example: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies an example to my_package/NAME.py of a project, and lets it be imported; returns the project."""
    (project / "my_package").mkdir()
    shutil.copy(example, project / f"my_package/{name}.py")
    monkeypatch.syspath_prepend(project)
    forget(monkeypatch, name)
    return project


def forget(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As in a new process: nothing is named or imported."""
    monkeypatch.setattr(own_code, "_named", {})
    for module in (f"my_package.{name}", "my_package"):
        monkeypatch.delitem(own_code.importlib.sys.modules, module, raising=False)
