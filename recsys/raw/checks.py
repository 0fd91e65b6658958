"""Checks of text in raw files: bytes that are not UTF-8, and lists that were written as text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.blocks import Block
from recsys.schema.kinds import kind_of, value_type

_OPENING = r"^\s*[\[({]"
_LIST = r"^\s*(\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}|\[\s*[\[{(].*[\]})]\s*\])\s*$"
_ONE_WORD = r"^\s*[\[({]\s*[^\s\d\"'\])}\-+.][^\s,;|\"']*\s*[\])}]\s*$"
"""A word in brackets, such as the token `[PAD]`."""


def check_utf8(block: Block) -> None:
    """Checks that all text of a block is UTF-8, which Arrow does not do when it reads parquet.

    Raises:
        InputError: for the first value that is not UTF-8, with its file, column and row.
    """
    for name in block.table.column_names:
        column = block.table[name]
        if kind_of(value_type(column.type)) != "text":
            continue
        first_row = 0
        for chunk in column.chunks:
            try:
                # the entries of a dictionary are not validated with its indices
                (chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk).validate(full=True)
            except pa.ArrowInvalid as error:
                row, value = _first_invalid(chunk)
                path, row_in_file = block.place(first_row + row)
                raise InputError(
                    f"{path}: column {name!r} has bytes that are not UTF-8 in row {row_in_file} ({value!r}): write the "
                    "file again with UTF-8 text"
                ) from error
            first_row += len(chunk)


def _first_invalid(chunk: pa.Array) -> tuple[int, bytes]:
    """Returns the row and the bytes of the first value that is not UTF-8."""
    for row in range(len(chunk)):
        value = chunk[row]
        if not value.is_valid:
            continue
        scalars = value.values if kind_of(chunk.type) == "list" else [value]
        for scalar in scalars:
            if pa.types.is_dictionary(scalar.type):
                scalar = scalar.value
            data = bytes(scalar.as_buffer()) if scalar.is_valid else b""
            try:
                data.decode()
            except UnicodeDecodeError:
                return row, data
    return 0, b"unused entry of a dictionary"


def check_delimited(block: Block, column: str, delimiter: str) -> None:
    """Checks that delimited text does not contain lists as JSON or Python writes them, such as `[1, 2]`.

    Raises:
        InputError: for the first such text.
    """
    text = block.table[column]
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    opens = pc.fill_null(pc.match_substring_regex(text, _OPENING), False)
    if not pc.any(opens).as_py():
        return
    rows = np.flatnonzero(np.asarray(opens))
    candidates = text.take(pa.array(rows))
    is_list = pc.and_(
        pc.match_substring_regex(candidates, _LIST), pc.invert(pc.match_substring_regex(candidates, _ONE_WORD))
    )
    if len(lists := np.flatnonzero(np.asarray(is_list))):
        path, row = block.place(int(rows[lists[0]]))
        value = candidates[int(lists[0])].as_py()
        raise InputError(
            f"{path}: column {column!r} contains {value[:60]!r} in row {row}, which is a list written as text, but "
            f"is read as tokens between {delimiter!r}: write a list column (kind: list), or no brackets and quotes"
        )
