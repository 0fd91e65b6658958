import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.runs.folder import RunFolder
from recsys.system.files import begin_folder, finish_folder
from recsys.system.lock import LOCK_FILE, hold, release

HOLDER = """
import sys
from pathlib import Path
from recsys.system.lock import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lock of `run.partial`."""
    (tmp_path / "run.partial").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run.partial")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_error_of_a_second_process_names_the_writer(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    for begin in (lambda: begin_folder(tmp_path / "run"), lambda: RunFolder(tmp_path / "run", {"a": 1})):
        with pytest.raises(
            InputError, match=rf"run.partial is being written by process {holder.pid} on .* since .*: wait"
        ):
            begin()
    holder.kill()
    holder.wait()
    assert begin_folder(tmp_path / "run").is_dir()  # a dead process holds no lock
    finish_folder(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["DONE"]


def test_a_process_can_lock_a_folder_twice(tmp_path: Path) -> None:
    hold(tmp_path)
    hold(tmp_path)
    assert f"process {os.getpid()} on" in (tmp_path / LOCK_FILE).read_text()
    release(tmp_path)
    assert not (tmp_path / LOCK_FILE).exists()
    release(tmp_path)


def test_begin_folder_deletes_the_files_of_an_earlier_start(tmp_path: Path) -> None:
    partial = begin_folder(tmp_path / "run")
    (partial / "old").write_text("x")
    (partial / "parts").mkdir()
    (partial / "parts" / "old").write_text("x")
    assert [path.name for path in begin_folder(tmp_path / "run").iterdir()] == [LOCK_FILE]
