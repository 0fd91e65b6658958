"""Folders that are either whole or plainly unfinished, and JSON files written in one piece."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.system.lock import LOCK_FILE, hold, release
from recsys.system.seal import DONE, seal


def is_done(folder: Path) -> bool:
    """Whether a folder was written to its end."""
    return (folder / DONE).is_file()


def partial_folder(folder: Path) -> Path:
    """Where a folder is written until it is whole."""
    return folder.with_name(folder.name + ".partial")


def begin_folder(folder: Path, is_fresh: bool = True) -> Path:
    """The partial folder, made if there is none, and held by this process until it is finished.

    Args:
        folder: the final name.
        is_fresh: whether to clear away what an earlier start left in it.

    Raises:
        InputError: when another process writes it.
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
    """Seals the partial folder, which marks it as whole, and gives it its final name."""
    seal(partial_folder(folder))
    give_final_name(folder)


def give_final_name(folder: Path) -> None:
    """Renames the partial folder, which is sealed, and gives it back."""
    partial = partial_folder(folder)
    release(partial)
    os.rename(partial, folder)


def check_free(folder: Path, what: str) -> None:
    """Refuses to write where something else is.

    Raises:
        InputError: when `folder` exists, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not this {what}: choose another --out, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): choose another --out") from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under a temporary name and renames it, so that no reader meets half a file."""
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
        raise InputError(f"{path} is missing: its folder is not whole, make it again") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error}): make its folder again") from error
