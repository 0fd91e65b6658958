"""The encodings of features from counts, as a user writes them and with the features of the data."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import is_pattern, match_columns
from recsys.schema.features import TokenFeature

EncodingKind = Literal["count", "ctr", "past_count", "past_ctr"]
"""count: how many rows a value has; ctr: its click rate; both as logarithms, without the rows of a row's own fold.
past_count and past_ctr: the same of earlier rows alone."""
EncodingConfig = dict[str, Annotated[tuple[EncodingKind, ...], Field(min_length=1)]]
"""By categorical feature, pattern, product of columns such as `"ad*site"`, or token sequence: the encodings."""
Encodings = dict[str, tuple[EncodingKind, ...]]
"""By categorical feature, product or token sequence."""
TOKEN_POOLS = ("mean", "max", "last_1", "last_2", "last_3")
"""What a row's encodings of tokens are: the mean and maximum over its distinct tokens, and those of its last token, the
one before, and so on."""
_TIMES = "*"
_PAST: tuple[EncodingKind, ...] = ("past_count", "past_ctr")


class PastRows(StrictModel):
    """Which rows the encodings `past_count` and `past_ctr` of a row count: those with a strictly lower `order`."""

    order: str
    """Column of numbers, dates, timestamps or ISO-8601 text that increases with time; with a column of dates,
    rows of earlier dates are counted."""
    history_until: Literal["split", "row"] = "split"
    """Which rows an evaluated row counts: `split`: all fitting rows of the split, as if all rows were scored at once
    before any of their labels is known; `row`: earlier rows, as if each label were known before the next row is
    scored."""


def kinds_of_folds(kinds: Sequence[EncodingKind]) -> tuple[EncodingKind, ...]:
    """The encodings among `kinds` that leave out a row's own fold."""
    return tuple(kind for kind in kinds if kind not in _PAST)


def kinds_of_past(kinds: Sequence[EncodingKind]) -> tuple[EncodingKind, ...]:
    """The encodings among `kinds` that count earlier rows."""
    return tuple(kind for kind in kinds if kind in _PAST)


def check_past(
    config: Mapping[str, Sequence[EncodingKind]], past: PastRows | None, sequences: Collection[str] = ()
) -> None:
    """Checks that encodings of earlier rows are not of a sequence and have an order, and an order has such encodings.

    Args:
        config: the encodings as a user writes them.
        past: the order.
        sequences: names of the sequences.

    Raises:
        ValueError: if one of them is missing, or for a sequence.
    """
    for name, kinds in config.items():
        if name in sequences and (of_past := kinds_of_past(kinds)):
            raise ValueError(
                f"encodings: {of_past[0]} of the sequence {name!r} is not computed: its tokens can be encoded by the "
                f"rows of other folds, as in {{{name}: [{of_past[0].removeprefix('past_')}]}}"
            )
    key = next((key for key, kinds in config.items() if kinds_of_past(kinds)), None)
    if key is not None and past is None:
        raise ValueError(
            f"encodings: {kinds_of_past(config[key])[0]} of {key!r} counts earlier rows: name the column of their time "
            "in schema.encodings_past, as in encodings_past: {order: timestamp}"
        )
    if key is None and past is not None:
        raise ValueError(
            "encodings_past is set, but no encoding is past_count or past_ctr: add one to schema.encodings, or remove "
            "encodings_past"
        )


def members_of_product(key: str, names: Collection[str]) -> tuple[str, ...] | None:
    """The columns of a product such as `ad*site`; None for a name or a pattern."""
    members = tuple(member.strip() for member in key.split(_TIMES))
    is_product = key not in names and len(members) > 1 and all(member in names for member in members)
    return members if is_product else None


def products_of(config: Mapping[str, tuple[EncodingKind, ...]], names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By key: the columns of the products among the encodings.

    Args:
        config: the encodings as a user writes them.
        names: the columns of the data.
    """
    return {key: members for key in config if (members := members_of_product(key, names)) is not None}


def resolve_encodings(
    config: Mapping[str, tuple[EncodingKind, ...]],
    features: Collection[str],
    products: Collection[str],
    token_sequences: Sequence[TokenFeature] = (),
    column_sequences: Collection[str] = (),
) -> Encodings:
    """Finds the features of the encodings; a name takes precedence over patterns, a later pattern over an earlier.

    Patterns match categorical features alone; a token sequence is named in full.

    Args:
        config: the encodings as a user writes them.
        features: the categorical features.
        products: the keys that are products, which may be among the features.
        token_sequences: the token sequences.
        column_sequences: names of the sequences of numbers.

    Raises:
        InputError: for a name or pattern that no categorical feature or token sequence matches.
    """
    if of_numbers := next((key for key in config if key in column_sequences), None):
        raise InputError(
            f"schema.encodings: {of_numbers!r} is a sequence of numbers, which has no values to count: name a "
            "categorical feature or a sequence of tokens"
        )
    categorical = [name for name in features if name not in products]
    sequences = [sequence.name for sequence in token_sequences if sequence.name in config]
    by_feature: Encodings = {}
    for is_name in (False, True):
        for key, kinds in config.items():
            if key not in products and key not in sequences and is_pattern(key, categorical) != is_name:
                matched = match_columns([key], categorical, "schema.encodings")
                by_feature |= dict.fromkeys(matched, tuple(dict.fromkeys(kinds)))
    in_order = {name: by_feature[name] for name in categorical if name in by_feature}
    return in_order | {key: tuple(dict.fromkeys(config[key])) for key in (*products, *sequences)}


def encoded_columns(feature: str, kinds: Sequence[EncodingKind], pools: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the dense columns of a feature's encodings, such as `ctr(ad)`, or `ctr_mean(history)` with pools."""
    names = [f"{kind}_{pool}" for kind in kinds for pool in pools] if pools else kinds
    return tuple(f"{name}({feature})" for name in names)
