"""The file DONE of a finished folder: the version of its format, and the size and checksum of every file in it."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.system.lock import LOCK_FILE

DONE = "DONE"
VERSION = 1
_SAMPLED_SUFFIXES = {".arrow", ".parquet"}
"""Of data files: large ones are checked in places, for to read all of one takes as long as an epoch."""
_SAMPLED_FROM = 64 << 20
_N_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10
PARTS = "parts"
"""What an unfinished run has of its fits; a finished one has none."""
_UNSEALED_FOLDERS = {"tensorboard", PARTS}


class SealedFile(StrictModel):
    """What a file was when its folder was finished."""

    n_bytes: int
    sha256: str
    of: Literal["all", "samples"]
    """samples: 64 evenly spaced stretches of 64 KiB, the first and the last among them."""


class Seal(StrictModel):
    """DONE."""

    version: int
    files: dict[str, SealedFile]
    """By path in the folder."""


def seal(folder: Path) -> None:
    """Writes DONE: from then on the folder counts as whole."""
    files = {str(path.relative_to(folder)): _describe(path) for path in sorted(_files(folder))}
    temporary = folder / f"{DONE}.tmp"
    temporary.write_text(json.dumps(Seal(version=VERSION, files=files).model_dump(), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / DONE)


def verify(folder: Path, *names: str) -> None:
    """Whether files of a finished folder are what was written.

    Args:
        folder: a finished one.
        names: files, or folders of them, that are to be read; all when none is given. One that was never there is not
            missed.

    Raises:
        InputError: for the first that is not.
    """
    sealed = _read(folder)
    for name, was in sealed.files.items():
        if names and not any(name == wanted or name.startswith(f"{wanted}/") for wanted in names):
            continue
        path = folder / name
        if not path.is_file():
            raise InputError(
                f"{path} is missing, though {folder / DONE} names it: put it back, or make the folder again"
            )
        n_bytes = path.stat().st_size
        if n_bytes != was.n_bytes:
            raise InputError(f"{path} has {n_bytes:,} bytes, and was written with {was.n_bytes:,}: {_CURE}")
        if _checksum(path, was.of) != was.sha256:
            raise InputError(f"{path} is damaged or was changed (its checksum is not that in {DONE}): {_CURE}")


_CURE = "copy it again, or remove its folder and make it again"


def _read(folder: Path) -> Seal:
    path = folder / DONE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no {DONE} file: it is not whole, make it again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not a list of checksums: it is damaged or of another version, {_CURE}") from error
    if version != VERSION:
        raise InputError(f"{path} is of version {version}, and this is version {VERSION}: make the folder again")
    try:
        return Seal.model_validate(found)
    except ValidationError as error:
        raise InputError(f"{path} is not a list of checksums: it is damaged, {_CURE}") from error


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in _UNSEALED_FOLDERS:
                yield from _files(path)
        elif path.name not in (f"{DONE}.tmp", LOCK_FILE) and not (path.parent == folder and path.name == DONE):
            yield path


def _describe(path: Path) -> SealedFile:
    n_bytes = path.stat().st_size
    of: Literal["all", "samples"] = "all"
    if path.suffix in _SAMPLED_SUFFIXES and n_bytes > _SAMPLED_FROM:
        of = "samples"
    return SealedFile(n_bytes=n_bytes, sha256=_checksum(path, of), of=of)


def _checksum(path: Path, of: Literal["all", "samples"]) -> str:
    with path.open("rb") as file:
        if of == "all":
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest, last = hashlib.sha256(), path.stat().st_size - _SAMPLE_BYTES
        for number in range(_N_SAMPLES):
            file.seek(last * number // (_N_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()
