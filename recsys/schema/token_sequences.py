"""Resolves a token sequence of the schema to its column and vocabulary."""

from collections.abc import Collection

from recsys.errors import InputError
from recsys.patterns import match_columns, nearest
from recsys.schema.config import DelimitedSequence, ListSequence, LogSequence, SchemaConfig
from recsys.schema.features import TokenFeature


def token_feature(
    name: str,
    sequence: DelimitedSequence | ListSequence | LogSequence,
    config: SchemaConfig,
    categorical: tuple[str, ...],
    names: Collection[str],
    usable: Collection[str],
) -> TokenFeature:
    """Resolves a token sequence.

    Args:
        name: its name.
        sequence: its settings.
        config: the whole schema.
        categorical: the categorical columns.
        names: the columns of the data.
        usable: those that may be features.

    Raises:
        InputError: for an unknown column or vocabulary.
    """
    role = f"schema.sequences.{name}"
    vocabulary, delimiter = sequence.vocabulary or name, None
    if isinstance(sequence, LogSequence):
        where = [sequence.where.column] if sequence.where else []
        match_columns([sequence.key, sequence.item, sequence.order, *where], names, role)
        column, keep = name, "last"
        if sequence.vocabulary is None and sequence.item in categorical:
            vocabulary = sequence.item
    else:
        column, keep = sequence.column or name, sequence.keep
        match_columns([column], usable, f"{role}.column")
        if isinstance(sequence, DelimitedSequence):
            delimiter = sequence.delimiter
    if sequence.vocabulary and vocabulary not in categorical and vocabulary not in config.sequences:
        raise InputError(
            f"{role}.vocabulary: {vocabulary!r} is neither a categorical column nor a sequence"
            f"{nearest(vocabulary, (*categorical, *config.sequences))}"
        )
    return TokenFeature(
        name=name,
        column=column,
        delimiter=delimiter,
        max_length=sequence.max_length,
        keep=keep,
        vocabulary=vocabulary,
    )
