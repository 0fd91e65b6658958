from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.system.files import new_folder, removed_if_refused
from recsys.system.lock import LOCK_FILE, hold, is_held


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def refuse(
    manager: AbstractContextManager[None], *actions: Callable[[], None], error: type[Exception] = InputError
) -> None:
    """Takes actions inside a context manager, then raises."""

    def run() -> None:
        with manager:
            for action in actions:
                action()
            raise error

    with pytest.raises(error):
        run()


def test_a_refused_output_is_removed_with_the_new_folders_above_it(tmp_path: Path) -> None:
    output = tmp_path / "a/b/run"
    refuse(removed_if_refused(output), lambda: write(output / "file"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    refuse(removed_if_refused(output), lambda: write(output / "file"))
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    refuse(removed_if_refused(output), lambda: write(output), lambda: write(output.with_name("other")))
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/other"]


def test_outputs_that_are_kept(tmp_path: Path) -> None:
    """One of an earlier start, one with finished parts, and one that another kind of error ended."""
    earlier, parts, full_disk = (tmp_path / name for name in ("earlier", "parts", "full-disk"))
    earlier.mkdir()
    refuse(removed_if_refused(earlier), lambda: write(earlier / "file"))
    refuse(removed_if_refused(parts, lambda: True), lambda: write(parts / "file"))
    refuse(removed_if_refused(full_disk), lambda: write(full_disk / "file"), error=OSError)
    for output in (earlier, parts, full_disk):
        assert (output / "file").is_file()


def test_a_folder_that_another_process_writes_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out"
    refuse(removed_if_refused(output), output.mkdir, lambda: hold(output))
    assert not output.exists()
    assert not is_held(output)
    refuse(removed_if_refused(output), lambda: write(output / "1-run.partial" / LOCK_FILE))
    assert output.exists()


def test_a_new_folder_is_removed_only_if_it_is_empty(tmp_path: Path) -> None:
    refuse(new_folder(tmp_path / "a/b"))
    assert list(tmp_path.iterdir()) == []
    refuse(new_folder(tmp_path / "a/b"), lambda: write(tmp_path / "a/file"))
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/file"]
