"""The DONE file of a finished folder: its format version, and the size and checksum of each file."""

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
"""Suffixes of data files. Of a large one, only samples are checked: reading all of it takes as long as an epoch."""
_SAMPLED_FROM = 64 << 20
_N_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10
PARTS = "parts"
"""Folder for the finished fits of an unfinished run. A finished run has no such folder."""
_UNSEALED_FOLDERS = {"tensorboard", PARTS}


class SealedFile(StrictModel):
    """Size and checksum of a file when its folder was finished."""

    n_bytes: int
    sha256: str
    of: Literal["all", "samples"]
    """What the checksum covers. samples: 64 evenly spaced samples of 64 KiB, including the first and last bytes."""


class Seal(StrictModel):
    """Content of the DONE file."""

    version: int
    files: dict[str, SealedFile]
    """By path relative to the folder."""


def seal(folder: Path) -> None:
    """Writes DONE, which marks the folder as complete."""
    files = {str(path.relative_to(folder)): _describe(path) for path in sorted(_files(folder))}
    temporary = folder / f"{DONE}.tmp"
    temporary.write_text(json.dumps(Seal(version=VERSION, files=files).model_dump(), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / DONE)


def verify(folder: Path, *names: str) -> None:
    """Checks that files of a finished folder are unchanged.

    Args:
        folder: a finished folder.
        names: files, or folders of files, to check; all files if empty. Names that DONE does not list are ignored.

    Raises:
        InputError: for the first file that is missing or differs from DONE, or when DONE is missing or invalid.
    """
    sealed = _read(folder)
    for name, sealed_file in sealed.files.items():
        if names and not any(name == requested or name.startswith(f"{requested}/") for requested in names):
            continue
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing, but {folder / DONE} lists it: restore it, or create the folder again")
        n_bytes = path.stat().st_size
        if n_bytes != sealed_file.n_bytes:
            raise InputError(f"{path} has {n_bytes:,} bytes, expected {sealed_file.n_bytes:,}: {_FIX}")
        if _checksum(path, sealed_file.of) != sealed_file.sha256:
            raise InputError(f"{path} is damaged or was changed (its checksum is not that in {DONE}): {_FIX}")


_FIX = "copy the file again, or remove its folder and create it again"


def _read(folder: Path) -> Seal:
    path = folder / DONE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no {DONE} file: it is incomplete, create it again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not a list of checksums: it is damaged or has another version, {_FIX}") from error
    if version != VERSION:
        raise InputError(f"{path} has version {version}, expected {VERSION}: create the folder again")
    try:
        return Seal.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path} is not a list of checksums: it is damaged, {_FIX}") from error


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in _UNSEALED_FOLDERS:
                yield from _files(path)
        elif path.name not in (f"{DONE}.tmp", LOCK_FILE) and not (path.parent == folder and path.name == DONE):
            yield path


def _describe(path: Path) -> SealedFile:
    n_bytes = path.stat().st_size
    coverage: Literal["all", "samples"] = "all"
    if path.suffix in _SAMPLED_SUFFIXES and n_bytes > _SAMPLED_FROM:
        coverage = "samples"
    return SealedFile(n_bytes=n_bytes, sha256=_checksum(path, coverage), of=coverage)


def _checksum(path: Path, coverage: Literal["all", "samples"]) -> str:
    with path.open("rb") as file:
        if coverage == "all":
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest, last_offset = hashlib.sha256(), path.stat().st_size - _SAMPLE_BYTES
        for index in range(_N_SAMPLES):
            file.seek(last_offset * index // (_N_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()
