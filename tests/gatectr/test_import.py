"""Importing a module does no work, and the command line starts without torch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.common.start import WITHOUT_TORCH, module_of

ROOT = Path(__file__).parents[2]
STATE = """
import atexit, importlib, logging, os, pkgutil, signal, sys, threading
import matplotlib

def state():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    logs = {name: logging.getLogger(name).level for name in (None, "torchrec")}
    backend = dict.__getitem__(matplotlib.rcParams, "backend")
    return handlers, logs, id(backend), sys.excepthook, sys.unraisablehook, os.getcwd(), threading.active_count()
"""
IMPORT_ALL = """
before, of_kernels = state(), set()
for package in ("recsys", "retrieval", "ranking", "pipelines", "gatectr"):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # Triton comes with torch's builds for GPUs
                assert error.name == "triton", error
                of_kernels.add(module.name)
kernels = {"recsys.data.resident.kernels", "recsys.nn.attention_kernels", "recsys.nn.jagged_kernels"}
assert of_kernels in (set(), kernels), of_kernels
assert [a == b for a, b in zip(before, state())] == [True] * len(before), (before, state())
"""


def python(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment)


def test_importing_every_module_does_no_work() -> None:
    done = python("-c", STATE + IMPORT_ALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_module_of_the_user_keeps_its_signal_handlers(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import pipelines\n")
    (tmp_path / "mine" / "go.py").write_text(
        "import signal\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\nprint('kept')\n"
    )
    done = python("-m", "mine.go", folder=tmp_path)
    assert done.stdout == "kept\n", done.stderr


@pytest.mark.parametrize(
    ("command_line", "module"),
    [
        (["python", "-m", "pipelines.rank", "--model", "din"], "pipelines.rank"),
        (["python", "-u", "-X", "dev", "-mpipelines.rank"], "pipelines.rank"),
        (["python", "script.py", "pipelines.rank"], ""),
        (["python", "-m"], ""),
    ],
)
def test_the_module_that_python_runs(command_line: list[str], module: str) -> None:
    assert module_of(command_line) == module


@pytest.mark.parametrize("name", ["gatectr", "gatectr.command"])
def test_the_package_is_imported_without_torch(name: str) -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'pydantic', 'typer'}"
    done = python("-c", f"import sys, {name}; found = {heavy} & set(sys.modules); assert not found, found")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_commands_that_need_no_torch(name: str) -> None:
    done = python("-c", f"import sys, {name}; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP's library of Linux prints its settings")
@pytest.mark.parametrize(
    ("command", "setting"),
    [
        (("-m", "pipelines.rank", "--help"), None),
        (("-m", "pipelines.rank", "--help"), "active"),
        (("-c", "import gatectr; gatectr.fit"), None),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    command: tuple[str, ...], setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_DISPLAY_ENV", "true")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if setting is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", setting)
    printed = python(*command).stderr
    assert f"OMP_WAIT_POLICY = '{(setting or 'passive').upper()}'" in printed
    assert len(set(re.findall(r"OMP_WAIT_POLICY = '\w+'", printed))) == 1
