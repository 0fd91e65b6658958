"""A wheel of this checkout, installed in an environment of its own that shares this one's other packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
SOURCES = ("configs", *(pattern.rstrip("*") for pattern in BUILD["packages"]["find"]["include"]))
FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")

Installed = Callable[..., subprocess.CompletedProcess[str]]


def call(arguments: Sequence[str | Path], folder: Path, expected: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(map(str, arguments)), cwd=folder, capture_output=True, text=True, env=environment())
    assert expected is None or done.returncode == expected, done.stdout + done.stderr
    return done


def environment() -> dict[str, str]:
    """Without the variables that could lead to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GATECTR"))}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """`installed("gatectr", "rank", ..., folder=F)` runs a program of the environment with the wheel, in a folder."""
    work = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, work / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, work / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", work, work / "source"]
    call([*pip, *build], work)
    (wheel,) = work.glob("*.whl")
    shutil.rmtree(work / "source")
    venv.create(work / "env", with_pip=False)
    bin_folder = work / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    call([*pip, "--python", bin_folder / "python", "install", "--no-deps", "--no-index", wheel], work)
    paths = call([bin_folder / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], work)
    # a folder in a .pth file is searched last, and its own .pth files, such as an editable install's, are not read
    Path(paths.stdout.strip(), "others.pth").write_text(sysconfig.get_path("purelib"))

    def run(program: str, *arguments: str | Path, folder: Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
        return call([bin_folder / program, *arguments], folder, expected)

    return run
