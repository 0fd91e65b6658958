"""Finds raw files by paths, folders and patterns.

The folders `NAME=VALUE` directly above a file are its partition columns, as Spark's partitionBy writes them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from recsys.data.groups import Partition
from recsys.errors import InputError
from recsys.patterns import is_pattern, nearest

PARQUET, DELIMITED = (".parquet", ".pq"), (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_HIDDEN = (".", "_SUCCESS", "_metadata", "_common_metadata", "_temporary", "_delta_log")
"""Beginnings of the names that are not data: of hidden files, and of what Spark writes beside the data."""
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def find_files(paths: Sequence[str], folder: Path) -> list[Path]:
    """Returns the files that paths, folders and patterns (`*`, `?`, `[`, `**`) match, sorted by name within each.

    A folder stands for its data files and those of its `NAME=VALUE` folders: all parquet, or all CSV and TSV. A path
    that exists is that path, even if it looks like a pattern.

    Raises:
        InputError: for a path that matches no file, and for a file that two paths match.
    """
    files: dict[tuple[int, int], tuple[Path, str]] = {}
    for path in paths:
        for file in _matches(folder / path):
            status = file.stat()
            key = status.st_dev, status.st_ino
            if key in files:
                other_file, other_path = files[key]
                raise InputError(
                    f"{file} is matched twice, by {other_path!r} and {path!r}: its rows would count twice, so name it "
                    f"once{'' if other_file == file else f' ({other_file} is the same file)'}"
                )
            files[key] = file, path
    return [file for file, _ in files.values()]


def find_file(path: str, folder: Path, role: str) -> Path:
    """Returns the one file of a path.

    Raises:
        InputError: if the path matches no file, or several.
    """
    matched = find_files([path], folder)
    if len(matched) > 1:
        raise InputError(f"{role}: {folder / path} matches {len(matched)} files, expected one: name one file")
    return matched[0]


def find_beside(paths: Sequence[str], folder: Path) -> list[Path]:
    """Returns files by paths and patterns relative to a folder of data files, or to one of the two folders above it.

    Args:
        paths: the paths and patterns; each is looked up in the nearest folder that has it.
        folder: the folder, which may be a pattern.

    Raises:
        InputError: if no folder has a path, or two paths match one file.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    bases = (existing, *existing.absolute().parents[:2])
    located = [next((base / path for base in bases if _has_match(base / path)), existing / path) for path in paths]
    return find_files([str(path.absolute()) for path in located], existing)


def check_distinct(files: Mapping[Partition, Sequence[Path]]) -> None:
    """Checks that no file belongs to two partitions.

    Raises:
        InputError: for the first such file.
    """
    partition_of: dict[tuple[int, int], Partition] = {}
    for partition, paths in files.items():
        for path in paths:
            status = path.stat()
            other = partition_of.setdefault((status.st_dev, status.st_ino), partition)
            if other != partition:
                raise InputError(f"{path} is both a {other} file and a {partition} file: name it in one of them")


def partition_values(path: Path) -> dict[str, str | None]:
    """Returns the values of the `NAME=VALUE` folders directly above a file, the outermost first."""
    values: dict[str, str | None] = {}
    for parent in path.parents:
        name, equals, value = parent.name.partition("=")
        if not equals or not name:
            break
        values = {unquote(name): None if value == _NULL_PARTITION else unquote(value)} | values
    return values


def display_name(path: Path) -> str:
    """Returns a file's name with its `NAME=VALUE` folders."""
    n_partitions = len(partition_values(path))
    return "/".join(path.parts[-1 - n_partitions :])


def _matches(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    if location.is_dir():
        return _files_of_folder(location)
    base, pattern = _base_and_pattern(location)
    if pattern is None:
        raise InputError(f"{location} does not exist{_nearest_name(location)}: correct the path")
    matched = sorted(path for path in base.glob(pattern) if not _is_hidden(path, base))
    files = dict.fromkeys(path for path in matched if path.is_file())
    for path in matched:
        if path.is_dir() and ("=" in path.name or not files):
            files |= dict.fromkeys(_files_of_folder(path))
    if not files:
        raise InputError(f"{location} matches no file: correct the path, or the folder given with --data")
    return sorted(files)


def _has_match(location: Path) -> bool:
    if location.exists():
        return True
    base, pattern = _base_and_pattern(location)
    return pattern is not None and any(base.glob(pattern))


def _files_of_folder(folder: Path) -> list[Path]:
    """Returns the data files of a folder and of its partition folders."""
    found = sorted(_walk(folder))
    parquet, delimited = ([p for p in found if _has_suffix(p, suffixes)] for suffixes in (PARQUET, DELIMITED))
    if parquet and delimited:
        raise InputError(
            f"{folder} has parquet files ({parquet[0].name}) and CSV or TSV files ({delimited[0].name}): name those to "
            f"read by a pattern, such as {folder / '**' / ('*' + parquet[0].suffix)}"
        )
    if parquet or delimited:
        return parquet or delimited
    inner = next((path for path in folder.rglob("*") if _has_suffix(path, PARQUET + DELIMITED)), None)
    hint = "correct the path, or the folder given with --data"
    if inner is not None:
        hint = f"name its files by a pattern, such as {folder / '**' / ('*' + inner.suffix)}"
    raise InputError(f"{folder} has no parquet, CSV or TSV file: {hint}")


def _has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            if entry.is_file():
                yield Path(entry.path)
            elif entry.is_dir() and "=" in entry.name:
                yield from _walk(Path(entry.path))


def _is_hidden(path: Path, base: Path) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.relative_to(base).parts)


def _base_and_pattern(location: Path) -> tuple[Path, str | None]:
    """Returns the longest existing parent and the pattern below it; no pattern if the rest contains no wildcard."""
    base = next((parent for parent in location.parents if parent.is_dir()), Path("/"))
    rest = location.relative_to(base)
    return base, str(rest) if any(is_pattern(part) for part in rest.parts) else None


def _nearest_name(location: Path) -> str:
    if not location.parent.is_dir():
        return ""
    return nearest(location.name, [path.name for path in location.parent.iterdir()])
