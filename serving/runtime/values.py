"""Categorical values of a request as codes: a table of values seen before, in front of the index of the vocabulary.

A value of a request is a Python value or an entry of an Arrow array. Its text is computed by the same functions that
prepared the training rows, once for each distinct value; the table keeps the code. So the codes are those of
`recsys.prepare.encode`, and a value that was seen before costs one look-up in a dictionary.
"""

from collections.abc import Sequence
from copy import copy
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.raw.derive import cross
from recsys.raw.order.moments import read_moments
from recsys.raw.tokens import as_array, encode_values
from recsys.schema.kinds import Kind, ValueForm, kind_of
from serving.runtime.plain_text import joined, plain_text
from serving.runtime.vocabulary import FEW, MAX_REMEMBERED, ValueIndex

_MAX_TYPES = 16
"""Types of a column for which there are tables."""
_NONE = type(None)
_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    date: pa.date32(),
    datetime: pa.timestamp("us"),
    time: pa.time64("us"),
}


class RawColumn:
    """The values of one column: Python values and their Arrow type, None where all are null.

    Values with the same `key`, a Python or an Arrow type, are equal where they have the same text.

    Args:
        name: the column, for messages.
        values: [n] Python values, or an Arrow array.

    Raises:
        InputError: for values of types that no column can have, or of several kinds.
    """

    def __init__(self, name: str, values: Sequence[Any] | pa.Array | pa.ChunkedArray) -> None:
        self.name = name
        if isinstance(values, pa.Array | pa.ChunkedArray):
            array = as_array(values)
            if pa.types.is_dictionary(array.type):
                array = array.cast(array.type.value_type)
            self.dtype: pa.DataType | None = None if pa.types.is_null(array.type) else array.type
            is_plain = array.null_count == 0 and pa.types.is_primitive(array.type) and not _is_time(array.type)
            self.values: Sequence[Any] = array.to_numpy(zero_copy_only=False).tolist() if is_plain else _listed(array)
            self.key: Any = self.dtype
        else:
            self.values, self.key, self.dtype = _read_list(name, values)
        if self.dtype is not None and pa.types.is_floating(self.dtype) and _may_have_nan(self.values):
            self.values = [None if value != value else value for value in self.values]  # NaN counts as null

    @property
    def kind(self) -> Kind:
        """The kind of the values."""
        return "null" if self.dtype is None else kind_of(self.dtype)

    def repeated(self, n: int) -> "RawColumn":
        """A column of n rows that all have the value of this column of one row."""
        column = copy(self)
        column.values = [self.values[0]] * n
        return column

    def array(self, values: Sequence[Any]) -> pa.Array:
        """Converts some of the values to an Arrow array."""
        try:
            return pa.array(values, pa.string() if self.dtype is None else self.dtype)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            raise InputError(
                f"column {self.name!r} has a value that cannot be read ({_line(error)}): correct it"
            ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _may_have_nan(values: Sequence[Any]) -> bool:
    """Whether floats may have a NaN among them; their sum tells it sooner than each of them."""
    try:
        total = sum(values)
    except (TypeError, OverflowError):  # a null, or a large whole number
        return True
    return total != total


def _is_time(dtype: pa.DataType) -> bool:
    return pa.types.is_temporal(dtype)


def _listed(array: pa.Array) -> list[Any]:
    """The Python values of an array; instants as integers, which have the precision of their type."""
    if _is_time(array.type):
        return array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64()).to_pylist()
    return array.to_pylist()


def _read_list(name: str, values: Sequence[Any]) -> tuple[Sequence[Any], type, pa.DataType | None]:
    """Returns Python values, their type and their Arrow type."""
    types = set(map(type, values))
    if any(issubclass(kind, np.generic) for kind in types):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        types = set(map(type, values))
    types.discard(_NONE)
    if not types:
        return values, _NONE, None
    if types == {int, float}:
        return values, float, pa.float64()
    if len(types) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in types))
        raise InputError(f"column {name!r} has values of several types ({names}): write all of them with one type")
    (only,) = types
    if only is int and max(value for value in values if value is not None) >= 2**63:
        return values, int, pa.uint64()
    if only is Decimal or (only is datetime and any(value is not None and value.tzinfo for value in values)):
        try:
            dtype = pa.array(list(values)).type
        except (pa.ArrowInvalid, OverflowError) as error:
            raise InputError(f"column {name!r} has a value that cannot be read ({_line(error)}): correct it") from error
        return values, dtype, dtype
    if only in _ARROW_TYPES:
        return values, only, _ARROW_TYPES[only]
    raise InputError(
        f"column {name!r} has a value of type {only.__name__}, expected text, numbers, booleans or null: correct it"
    )


class Values:
    """The codes of one categorical feature: a column, or a cross of columns.

    Args:
        feature: its name.
        columns: its source columns, more than one for a cross.
        forms: the form of each column's values in the training data.
        index: the vocabulary.
        numbers_refused: see `VocabularySpec`.
    """

    def __init__(
        self,
        feature: str,
        columns: Sequence[str],
        forms: Sequence[ValueForm],
        index: ValueIndex,
        numbers_refused: str | None = None,
    ) -> None:
        self.feature, self.columns = feature, tuple(columns)
        self._forms, self._index, self._numbers_refused = tuple(forms), index, numbers_refused
        self._tables: dict[Any, dict[Any, int]] = {}
        self._is_single = len(columns) == 1

    def code(self, value: Any) -> int | None:
        """Returns the code of a value of a single column; None if it was not seen before."""
        if not self._is_single or (table := self._tables.get(type(value))) is None:
            return None
        try:
            return table.get(value)
        except TypeError:
            return None

    def codes(self, columns: Sequence[RawColumn]) -> np.ndarray:
        """Returns the [n] int32 codes of the rows of the source columns.

        Raises:
            InputError: for a value that the training data cannot contain, such as a number in a column of text.
        """
        types = columns[0].key if self._is_single else tuple(column.key for column in columns)
        if types not in self._tables and len(self._tables) >= _MAX_TYPES:
            self._tables.clear()
        table = self._tables.setdefault(types, {})
        keys: Any = columns[0].values
        if not self._is_single:
            keys = list(zip(*(column.values for column in columns), strict=True))
        try:
            return np.fromiter(map(table.__getitem__, keys), np.int32, len(keys))
        except KeyError:
            pass
        unseen = [key for key in dict.fromkeys(keys) if key not in table]
        codes = self._read(columns, unseen).tolist()
        if len(table) + len(unseen) > MAX_REMEMBERED:
            read = dict(zip(unseen, codes, strict=True))
            known = {key: table[key] for key in set(keys) & table.keys()}
            table.clear()
            table.update(read | known if len(read) + len(known) <= MAX_REMEMBERED else {})
            return np.array([read[key] if key in read else known[key] for key in keys], np.int32)
        table.update(zip(unseen, codes, strict=True))
        return np.fromiter(map(table.__getitem__, keys), np.int32, len(keys))

    def _read(self, columns: Sequence[RawColumn], keys: list[Any]) -> np.ndarray:
        """Returns the codes of distinct values, or of distinct combinations of values."""
        if len(keys) <= FEW and (few := self._read_few(columns, keys)) is not None:
            return few
        parts = [keys] if len(columns) == 1 else list(zip(*keys, strict=True))
        arrays, forms = [], []
        for column, form, values in zip(columns, self._forms, parts, strict=True):
            array = column.array(list(values))
            array, form = read_as(array, form, column.name, self._numbers_refused)
            arrays.append(array)
            forms.append(form)
        if len(columns) > 1:
            names = [column.name for column in columns]
            return self._index.codes(cross([pa.chunked_array([array]) for array in arrays], forms, names))
        encoded = encode_values(arrays[0], f"column {columns[0].name!r}", forms[0])
        return np.append(self._index.codes(encoded.values), self._index.codes(pa.nulls(1, pa.string())))[encoded.codes]

    def _read_few(self, columns: Sequence[RawColumn], keys: list[Any]) -> np.ndarray | None:
        """The codes of a few values by the rules for single ones; None if one of them has no rule."""
        codes = []
        for key in keys:
            texts: list[str | None] = []
            for column, form, value in zip(columns, self._forms, (key,) if self._is_single else key, strict=True):
                text = None if value is None else plain_text(value, column.dtype, form)
                if text is None and value is not None:
                    return None
                texts.append(text)
            codes.append(self._index.code(texts[0] if self._is_single else joined(texts)))
        return np.array(codes, np.int32)


def read_as(
    array: pa.Array, form: ValueForm, name: str, numbers_refused: str | None = None
) -> tuple[pa.Array, ValueForm]:
    """Returns values and the form in which they are compared with those of the training data.

    Raises:
        InputError: for values of a kind that cannot equal those of the training data.
    """
    kind = "null" if array.null_count == len(array) else kind_of(array.type)
    if form.kind is None or kind in ("null", form.kind):
        return array, form
    if form.kind == "number" and kind == "text":
        return array, form.model_copy(update={"text_as": "numbers"})
    if form.kind == "text" and kind == "number" and form.text_as == "whole numbers":
        if numbers_refused is not None:
            raise InputError(
                f"column {name!r} contains numbers, but the training data has text such as {numbers_refused!r}, which "
                "no number has: write it as text"
            )
        return array, form.model_copy(update={"kind": "number"})
    if form.kind in ("time", "zoned time") and kind == "text":  # JSON has no times
        moments = read_moments(array, Path("the request"), f"column {name!r}")
        kind, array = moments.kind if moments.kind != "weekday" else "text", moments.values
        if kind == form.kind:
            return array, form
    if form.kind == "time of day" and kind == "text":
        try:
            return array.cast(pa.time64("us")), form
        except pa.ArrowInvalid:
            pass
    raise InputError(
        f"column {name!r} contains values of kind {kind}, but the training data has {form.kind}: write them with that "
        "kind"
    )
