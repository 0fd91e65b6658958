"""Columns of users by their key, from a parquet file: a request then names the user, and need not send a history."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.patterns import has_columns, nearest


class UserStore:
    """One row for each user, in memory.

    Args:
        path: the parquet file.
        key: the column that names the user.

    Raises:
        InputError: if the file cannot be read, lacks the key, or has a key twice or null.
    """

    def __init__(self, path: Path, key: str) -> None:
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} is not a readable parquet file ({str(error).splitlines()[0]}): correct it"
            ) from error
        if key not in table.column_names:
            raise InputError(
                f"{path} has no column {key!r}{nearest(key, table.column_names)} ({has_columns(table.column_names)}): "
                "name the key of the users with --user-key"
            )
        self.path, self.key = path, key
        keys = _texts(table.column(key), path, key)
        self._row_of = {text: row for row, text in enumerate(keys)}
        if len(self._row_of) < len(keys):
            again = next(text for row, text in enumerate(keys) if self._row_of[text] != row)
            raise InputError(f"{path} has the {key} {again!r} twice: keep one row for each user")
        self._table = table.drop_columns([key]).combine_chunks()
        self._unknown: dict[str, Any] = dict.fromkeys(self._table.column_names)

    def __len__(self) -> int:
        return len(self._row_of)

    def fill(self, user: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Adds the stored columns of a user; those that a request has replace them.

        The columns of a user whose key is unknown are null; a request without the key is returned as it is.
        """
        if not isinstance(user, Mapping) or user.get(self.key) is None:
            return user
        row = self._row_of.get(str(user[self.key]))
        stored = self._unknown if row is None else self._table.slice(row, 1).to_pylist()[0]
        return {**stored, **user}


def _texts(keys: pa.ChunkedArray, path: Path, key: str) -> list[str]:
    """The keys as text."""
    if keys.null_count:
        raise InputError(f"{path}: {key} has {keys.null_count:,} null values: remove these rows")
    if pa.types.is_dictionary(keys.type):
        keys = pc.cast(keys, keys.type.value_type)
    if not (pa.types.is_integer(keys.type) or pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type)):
        raise InputError(f"{path}: {key} has the type {keys.type}, expected whole numbers or text: convert it")
    texts: list[str] = pc.cast(keys, pa.string()).to_pylist()
    return texts
