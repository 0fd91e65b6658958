"""Token sequences of a request: the kept tokens, their ends and statistics, the same as in prepared rows."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recsys.data.vocabulary import MISSING_ID
from recsys.errors import InputError
from recsys.raw.derive import end_of_list
from recsys.raw.sequences.delimited import read_delimited
from recsys.raw.sequences.statistics import list_statistics
from recsys.raw.tokens import as_array, encode_values, parse_list
from recsys.schema.features import TokenFeature
from recsys.schema.kinds import ValueForm, kind_of, value_type
from serving.runtime.plain_text import is_plain, plain_text
from serving.runtime.values import read_as
from serving.runtime.vocabulary import ValueIndex

End = Literal["first", "last"]


@dataclass(frozen=True)
class Tokens:
    """A token sequence of [n] rows."""

    codes: np.ndarray
    """int32 codes of the kept tokens, end to end."""
    offsets: np.ndarray
    """[n + 1] int64: offsets of the rows in the codes."""
    ends: dict[str, np.ndarray]
    """By end, `first` and `last`: [n] int32 codes, of the vocabularies of the ends."""
    statistics: np.ndarray
    """[n, 4] float32: see `count_statistics`; no columns if no model reads them."""


class TokenReader:
    """Reads one token sequence.

    Args:
        sequence: the sequence.
        form: the form of its tokens in the training data.
        index: its vocabulary.
        ends: by end, the form and the vocabulary of the feature; empty if no model reads statistics or ends.
        has_statistics: whether a model reads them.
    """

    def __init__(
        self,
        sequence: TokenFeature,
        form: ValueForm,
        index: ValueIndex,
        ends: Mapping[End, tuple[ValueForm, ValueIndex]],
        has_statistics: bool,
    ) -> None:
        self.sequence, self._form, self._index, self._ends = sequence, form, index, ends
        self._has_statistics = has_statistics

    def read(self, values: Sequence[Any] | pa.Array) -> Tokens:
        """Reads the sequences of [n] rows: delimited text, or lists; null is an empty sequence.

        Raises:
            InputError: for values of another type than in the training data.
        """
        if isinstance(values, list) and len(values) == 1 and (tokens := self._read_text(values[0])) is not None:
            return tokens
        array = self._array(values)
        name, delimiter = f"column {self.sequence.column!r}", self.sequence.delimiter
        if delimiter is not None:
            parsed = read_delimited(array, delimiter, self.sequence.max_length, self.sequence.keep, name, self._form)
            texts = parsed.kept.values.to_pylist()
            end_codes: dict[str, np.ndarray] = {}
            ends: dict[End, np.ndarray] = {"first": parsed.first.codes, "last": parsed.last.codes}
            codes = _table(texts, self._index)[parsed.kept.codes]
            for end, (_, index) in self._ends.items():
                used, position = np.unique(ends[end], return_inverse=True)
                found = _table([texts[code] for code in used if code >= 0], index)
                end_codes[end] = (np.roll(found, 1) if used[0] < 0 else found)[position]
            statistics = parsed.statistics if self._has_statistics else parsed.statistics[:, :0]
            return Tokens(codes, parsed.offsets, end_codes, statistics)
        jagged = parse_list(array, self.sequence.max_length, self.sequence.keep)
        tokens, form = read_as(jagged.tokens, self._form, self.sequence.column)
        kept = encode_values(tokens, name, form)
        end_codes = {}
        for end, (end_form, index) in self._ends.items():
            edge, own = read_as(
                end_of_list(array, "first" if end == "first" else "last"), end_form, self.sequence.column
            )
            encoded = encode_values(edge, name, own)
            end_codes[end] = _table(encoded.values.to_pylist(), index)[encoded.codes]
        statistics = list_statistics(array) if self._has_statistics else np.zeros((len(array), 0), np.float32)
        return Tokens(_table(kept.values.to_pylist(), self._index)[kept.codes], jagged.offsets, end_codes, statistics)

    def _read_text(self, value: Any) -> Tokens | None:
        """The tokens of one plain text, or of null, as `read_delimited` reads them; None if it is not plain.

        For a single row, splitting the text is faster than the calls of compiled functions.
        """
        delimiter = self.sequence.delimiter
        text = "" if value is None else value
        if delimiter is None or not isinstance(text, str) or " " in text or not is_plain(text):
            return None
        tokens, kept = text.split(delimiter) if text else [], []
        n, n_kept = len(tokens), min(len(tokens), self.sequence.max_length)
        match self.sequence.keep:
            case "first":
                kept = tokens[:n_kept]
            case "last":
                kept = tokens[n - n_kept :]
            case "spread":
                kept = [tokens[(2 * position + 1) * n // (2 * n_kept)] for position in range(n_kept)]
        edges = {end: tokens[0 if end == "first" else -1] if tokens else "" for end in self._ends}
        canonical = {token: plain_text(token, None, self._form) for token in (*kept, *edges.values()) if token}
        texts = [text for token in kept if token and (text := canonical[token]) is not None]
        if None in canonical.values():
            return None
        codes = np.array(self._index.codes_of_texts(texts), np.int32)
        ends: dict[str, np.ndarray] = {}
        for end, (_, index) in self._ends.items():
            edge = canonical[edges[end]] if edges[end] else None
            ends[end] = np.array([MISSING_ID if edge is None else index.codes_of_texts([edge])[0]], np.int32)
        statistics = count_tokens(filter(None, tokens)) if self._has_statistics else np.zeros((1, 0), np.float32)
        return Tokens(codes, np.array([0, len(codes)]), ends, statistics)

    def _array(self, values: Sequence[Any] | pa.Array) -> pa.Array:
        """The column as an Arrow array of text or of lists."""
        column, is_text = self.sequence.column, self.sequence.delimiter is not None
        expected = f"text with tokens between {self.sequence.delimiter!r}" if is_text else "lists of tokens"
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values)
            if pa.types.is_dictionary(array.type):
                array = array.cast(array.type.value_type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            raise InputError(f"column {column!r} must contain {expected}, or null: correct it") from error
        kind = kind_of(array.type)
        if kind == "null":
            return pa.nulls(len(array), pa.string() if is_text else pa.list_(pa.string()))
        if kind != ("text" if is_text else "list"):
            raise InputError(f"column {column!r} contains {kind}, expected {expected}, or null: correct it")
        if pa.types.is_string_view(value_type(array.type)):
            array = array.cast(pa.large_string() if is_text else pa.large_list(pa.large_string()))
        if kind == "list" and pa.types.is_null(array.type.value_type):
            array = array.cast(pa.list_(pa.string()))
        return as_array(array)


def count_tokens(tokens: Iterable[str]) -> np.ndarray:
    """[1, 4] float32 statistics of the tokens of one row, see `count_statistics`."""
    counts = Counter(tokens).values()
    length = sum(counts)
    if length == 0:
        return np.zeros((1, 4), np.float32)
    entropy = math.log(length) - sum(count * math.log(count) for count in counts if count > 1) / length
    return np.array([[length, len(counts), len(counts) / length, max(entropy, 0.0)]], np.float32)


def _table(texts: list[str], index: ValueIndex) -> np.ndarray:
    """The int32 codes of texts, and that of no text at the end, for code -1."""
    return np.array([*index.codes_of_texts(texts), MISSING_ID], np.int32)
