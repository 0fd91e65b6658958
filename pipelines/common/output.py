"""Checks of the files that a pipeline writes."""

import os
from pathlib import Path

from recsys.errors import InputError


def check_file(path: Path) -> None:
    """Checks that a path can be that of a file, in a folder that may not exist yet.

    Raises:
        InputError: when it is a folder, or its folder cannot be created.
    """
    if path.is_dir():
        raise InputError(f"--out {path} is a folder: pass the path of a file")
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problem = "is not writable" if existing.is_dir() else "is a file"
        raise InputError(f"--out {path}: {path.parent} cannot be created ({existing} {problem}): choose another")
