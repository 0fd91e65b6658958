"""Atomic writes of folders and JSON files: an unfinished one never has its final name."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.system.lock import LOCK_FILE, hold, is_held, release
from recsys.system.seal import DONE, seal


def is_done(folder: Path) -> bool:
    """Whether a folder is complete: it has a DONE file."""
    return (folder / DONE).is_file()


def partial_folder(folder: Path) -> Path:
    """Returns the path under which a folder is written until it is complete."""
    return folder.with_name(folder.name + ".partial")


def begin_folder(folder: Path, is_fresh: bool = True) -> Path:
    """Creates the partial folder if it does not exist, and locks it until it is finished.

    Args:
        folder: the final name.
        is_fresh: whether to delete the files of an earlier start.

    Raises:
        InputError: when another process is writing the folder.
    """
    partial = partial_folder(folder)
    partial.mkdir(exist_ok=True)
    hold(partial)
    if is_fresh:
        for path in partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()
    return partial


def finish_folder(folder: Path) -> None:
    """Writes DONE into the partial folder, and renames the folder to its final name."""
    seal(partial_folder(folder))
    rename_partial(folder)


def rename_partial(folder: Path) -> None:
    """Unlocks the partial folder, which has a DONE file, and renames it to its final name."""
    partial = partial_folder(folder)
    release(partial)
    os.rename(partial, folder)


@contextmanager
def removed_if_refused(output: Path, is_kept: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Removes the file or folder that the block created, and new folders above it, if the block raises InputError.

    Args:
        output: the path.
        is_kept: whether it holds finished parts, which another start can use.
    """
    created = missing_paths(output)
    try:
        yield
    except InputError:
        if not is_kept():
            remove_created(created)
        raise


def missing_paths(output: Path) -> list[Path]:
    """Returns a path and the folders above it, as far as they do not exist: the innermost first."""
    output = output.absolute()
    return [path for path in (output, *output.parents) if not path.exists()]


def remove_created(paths: Sequence[Path]) -> None:
    """Removes what was written at paths of `missing_paths`: the output, and the folders above it that are empty."""
    if not paths:
        return
    output = paths[0]
    if output.is_dir() and not all(is_held(lock.parent) for lock in output.rglob(LOCK_FILE)):
        return  # another process writes it
    if output.is_dir():
        release(output)
        shutil.rmtree(output, ignore_errors=True)
    else:
        output.unlink(missing_ok=True)
    _remove_empty(paths[1:])


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Creates a folder and those above it; if the block raises InputError, removes those that are new and empty."""
    created = missing_paths(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except InputError:
        _remove_empty(created)
        raise


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def check_free(folder: Path, kind: str) -> None:
    """Checks that an output folder can be written, and creates its parent.

    Raises:
        InputError: when `folder` exists and is not empty, or its parent cannot be created.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not this {kind}: choose another --out, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created ({error.strerror}): choose another --out") from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under a temporary name and renames it, so that readers never see an incomplete file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: when the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: its folder is incomplete, create it again") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error}): create its folder again") from error
