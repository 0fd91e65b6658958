"""A download as it is, a folder, a zip or tar archive or one file: its files are found by name and read as streams."""

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from recsys.errors import InputError

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DEPTH = 3
"""Levels of folders that are searched: KuaiRand-Pure's files are in KuaiRand-Pure/data."""
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_MAX_SHOWN = 8


@dataclass(frozen=True)
class Download:
    """The files of a download."""

    path: Path
    openers: Mapping[str, Callable[[], IO[bytes]]]
    """By path within the download."""

    def find(self, *names: str) -> str | None:
        """Returns the file that has one of some names, also with `.gz` added; None if no file has.

        Raises:
            InputError: if several files of different folders have a name.
        """
        for variant in (variant for name in names for variant in (name, f"{name}.gz")):
            matched = [file for file in self.openers if PurePosixPath(file).name == variant]
            if len(matched) > 1:
                raise InputError(
                    f"{self.path} has several files {variant} ({', '.join(matched)}): pass the folder of one of them"
                )
            if matched:
                return matched[0]
        return None

    def require(self, *names: str) -> str:
        """Returns the file that has one of some names.

        Raises:
            InputError: if no file has.
        """
        file = self.find(*names)
        if file is None:
            has = ", ".join(list(self.openers)[:_MAX_SHOWN]) or "no file"
            raise InputError(
                f"{self.path} has no file {' or '.join(names)} (it has {has}): pass the folder or archive of the "
                "download to --source"
            )
        return file

    @contextmanager
    def open(self, file: str) -> Iterator[IO[bytes]]:
        """Opens a file of `openers`, decompressed if its name ends in `.gz`."""
        with self.openers[file]() as stream:
            if file.endswith(".gz"):
                with io.BufferedReader(gzip.GzipFile(fileobj=stream)) as decompressed:
                    yield decompressed
            else:
                yield stream


@contextmanager
def open_download(path: Path) -> Iterator[Download]:
    """Opens a download while the block runs.

    Raises:
        InputError: if it does not exist, or is damaged, which is found where it is read.
    """
    if not path.exists():
        raise InputError(f"--source {path} does not exist: pass the folder or archive of the download")
    try:
        with ExitStack() as stack:
            yield Download(path, _openers(path, stack))
    except _DAMAGED as error:
        raise InputError(f"{path} is damaged ({error}): download it again") from error


def _openers(path: Path, stack: ExitStack) -> dict[str, Callable[[], IO[bytes]]]:
    if path.is_dir():
        files = (file for depth in range(_DEPTH) for file in sorted(path.glob("*/" * depth + "*")) if file.is_file())
        return {file.relative_to(path).as_posix(): _opener(file) for file in files}
    if path.name.lower().endswith(".zip"):
        zipped = stack.enter_context(zipfile.ZipFile(path))
        return {info.filename: _zip_opener(zipped, info) for info in zipped.infolist() if not info.is_dir()}
    if path.name.lower().endswith(_TAR):
        tar = stack.enter_context(tarfile.TarFile.open(path))
        return {member.name: _tar_opener(tar, member) for member in tar.getmembers() if member.isfile()}
    return {path.name: _opener(path)}


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _tar_opener(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        stream = archive.extractfile(member)
        assert stream is not None  # a regular file
        return stream

    return opened
