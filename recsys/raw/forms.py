"""The common form of values that must meet: those of the columns that share a table, and of the two keys of a join."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError
from recsys.raw.column_types import ColumnType, effective_kind
from recsys.raw.files.raw_file import RawFile
from recsys.raw.values import canonical_text
from recsys.schema.kinds import AS_WRITTEN, Kind, ValueForm, kind_of, value_type
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class ColumnInFile:
    """A column in one file, whose values are compared with those of other columns."""

    column: str
    path: Path | None
    dtype: pa.DataType
    """The type of its values: that of the tokens of a list."""
    kind: Kind
    is_untyped: bool

    def __str__(self) -> str:
        return f"column {self.column!r}" + ("" if self.path is None else f" of {self.path}") + f" ({self.dtype})"


def compared_columns(schema: Schema) -> dict[str, list[str]]:
    """Returns the columns of the files whose values are compared with each other.

    They are those of each vocabulary, by its name, and each column that only crosses read, by its own.
    """
    column_of = {sequence.name: sequence.column for sequence in schema.token_sequences}
    column_of |= {name: log.item for name, log in schema.logs.items()}
    columns: dict[str, list[str]] = {}
    for vocabulary, features in schema.vocabularies.items():
        features = tuple(feature for feature in features if feature not in schema.crosses)
        sources = [source for name in features for source in schema.derived_categorical.get(name, (name,))]
        columns[vocabulary] = [column_of.get(source, source) for source in sources]
    crossed = {column for members in schema.crosses.values() for column in members} - schema.logs.keys()
    return columns | {column: [column] for column in sorted(crossed - columns.keys())}


def columns_in_files(
    columns: Iterable[str],
    files: Sequence[RawFile],
    schema: Schema,
    references: Mapping[str, ColumnType],
    side_files: Mapping[str, Sequence[RawFile]] | None = None,
) -> list[ColumnInFile]:
    """Returns each column as it is in each file that has it.

    Args:
        columns: names of columns.
        files: the files of rows.
        schema: the roles.
        references: by column, its type in the first file that gives it one.
        side_files: the files of each column of a side table, which is not in the files of rows.
    """
    side_files = side_files or {}
    return [
        ColumnInFile(
            column=column,
            path=file.path,
            dtype=value_type(file.types[column]),
            kind=_value_kind(schema, column, file, references[column]),
            is_untyped=column in file.untyped,
        )
        for column in dict.fromkeys(columns)
        for file in side_files.get(column, files)
        if column in file.types
    ]


def _value_kind(schema: Schema, column: str, file: RawFile, reference: ColumnType) -> Kind:
    kind = effective_kind(schema, column, file.types[column], column in file.untyped, reference)
    return kind_of(value_type(file.types[column])) if kind == "list" else kind


def common_form(columns: Sequence[ColumnInFile], role: str) -> ValueForm:
    """Returns the form in which equal values of the columns have equal text.

    Raises:
        InputError: for columns of kinds whose values cannot be equal, such as times and numbers.
    """
    known = [column for column in columns if column.kind != "null"]
    for column in known:
        kinds = {known[0].kind, column.kind}
        if len(kinds) > 1 and kinds != {"number", "text"}:
            raise InputError(
                f"{role}: {known[0]} and {column} contain values of different kinds ({known[0].kind}, {column.kind}), "
                "which cannot be equal: write both with one type, or give them separate tables"
            )
    if not known:
        return AS_WRITTEN
    text = [column for column in known if kind_of(column.dtype) == "text"]
    text_as: Literal["text", "whole numbers", "numbers"] = "text"
    if text and any(column.kind == "number" for column in known):
        text_as = "numbers"
    elif text and all(column.is_untyped for column in text):
        text_as = "whole numbers"
    bits = [column.dtype.bit_width for column in known if pa.types.is_floating(column.dtype)]
    kind: Kind = "number" if text_as == "numbers" else known[0].kind
    return ValueForm(kind=kind, text_as=text_as, float_bits=min(bits, default=None))


def form_for_scoring(trained: ValueForm, columns: Sequence[ColumnInFile], role: str) -> ValueForm:
    """Returns the form of a vocabulary's columns in files that are not part of the prepared data.

    Raises:
        InputError: for columns of a kind whose values cannot equal those of the vocabulary.
    """
    known = [column for column in columns if column.kind != "null"]
    if trained.kind is None or not known:
        return trained
    is_csv_trained = trained.text_as == "whole numbers"
    for column in known:
        if column.kind != trained.kind and not ({column.kind, trained.kind} == {"number", "text"}):
            raise InputError(
                f"{role}: {column} contains values of kind {column.kind}, but it has kind {trained.kind} in the "
                "training data: write it with the same type"
            )
    if trained.kind == "number" and any(kind_of(column.dtype) == "text" for column in known):
        return trained.model_copy(update={"text_as": "numbers"})
    if trained.kind == "text" and not is_csv_trained and any(column.kind == "number" for column in known):
        column = next(column for column in known if column.kind == "number")
        raise InputError(
            f"{role}: {column} contains numbers, but it has kind text in the training data: write it with the same type"
        )
    is_number = is_csv_trained and any(column.kind == "number" for column in known)
    return trained.model_copy(update={"kind": "number"}) if is_number else trained


def check_canonical_numbers(vocabularies: Mapping[str, Vocabulary], name: str) -> None:
    """Checks that numbers can equal the values of a vocabulary, which were read from CSV files as text.

    Raises:
        InputError: for a value such as `0.50` or `007`, which no number has as its text; for a column that only crosses
            read, whose values are not known.
    """
    if name not in vocabularies:
        raise InputError(
            f"column {name!r}, which crosses read, was text in CSV files: write it as text, not as numbers"
        )
    values = vocabularies[name].values
    canonical = canonical_text(values, form=ValueForm(text_as="numbers"))
    if len(others := np.flatnonzero(np.asarray(pc.not_equal(values, canonical)))):
        raise InputError(
            f"vocabulary {name!r} was prepared from CSV files, with text such as "
            f"{values[int(others[0])].as_py()!r}, which a column of numbers cannot contain: write the column as text"
        )
