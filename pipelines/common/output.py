"""Checks of the files that a pipeline writes."""

from pathlib import Path

from recsys.errors import InputError


def check_file(path: Path) -> None:
    """Checks that a path can be that of a file, and creates its folder.

    Raises:
        InputError: when it is a folder, or its folder cannot be created.
    """
    if path.is_dir():
        raise InputError(f"--out {path} is a folder: pass the path of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {path}: {path.parent} cannot be created ({error.strerror}): choose another") from error
