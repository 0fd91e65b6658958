"""The features of a data set, one by one and in groups, as the columns of its rows that hold them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from recsys.patterns import is_pattern, match_columns
from recsys.schema.config import SchemaConfig
from recsys.schema.resolved import Schema

RETRIEVAL_SCORE, ENCODINGS = "retrieval score", "encodings"


@dataclass(frozen=True)
class FeatureSet:
    """Features that are permuted together."""

    name: str
    members: tuple[str, ...]
    """Names of the features."""
    categorical: frozenset[str] = frozenset()
    """Categorical features whose ids are permuted."""
    encoded: frozenset[str] = frozenset()
    """Categorical features and token sequences whose encodings from counts are permuted."""
    measured: frozenset[str] = frozenset()
    """Columns of numbers, also as steps of a sequence and in missing indicators."""
    tokens: frozenset[str] = frozenset()
    """Token sequences."""
    has_retrieval_score: bool = False


def feature_set(name: str, members: Iterable[str], schema: Schema) -> FeatureSet:
    """Builds the set of the named features.

    Args:
        name: name of the set.
        members: categorical, numeric, vector and sequence features; those of no other kind are left out.
        schema: schema of the data set.
    """
    names = tuple(dict.fromkeys(members))
    return FeatureSet(
        name,
        names,
        categorical=frozenset(names) & frozenset(schema.categorical),
        encoded=frozenset(names) & frozenset(schema.encodings),
        measured=schema.measured_of(names),
        tokens=frozenset(names) & frozenset(sequence.name for sequence in schema.token_sequences),
    )


def single_features(schema: Schema, categorical: Collection[str], has_retrieval_score: bool) -> list[FeatureSet]:
    """Every feature by itself: an id or a sequence with its encodings, a column of numbers, or a vector.

    Args:
        schema: schema of the data set.
        categorical: the categorical features that the models have embeddings of.
        has_retrieval_score: whether a model reads the score of a retrieval run.
    """
    names = [name for name in schema.categorical if name in categorical or name in schema.encodings]
    names += [*schema.numeric_features, *_sequences(schema)]
    score = [FeatureSet(RETRIEVAL_SCORE, (RETRIEVAL_SCORE,), has_retrieval_score=True)] if has_retrieval_score else []
    return [feature_set(name, [name], schema) for name in names] + score


def feature_groups(schema: Schema, config: SchemaConfig, features: Iterable[FeatureSet]) -> list[FeatureSet]:
    """The groups that the schema names: towers, patterns, crosses, encodings, and sequences with their statistics.

    A group without features, or with the features of an earlier group, is left out.

    Args:
        schema: schema of the data set.
        config: the roles as the user wrote them, with their patterns.
        features: the features one by one.
    """
    read = [feature.name for feature in features]
    statistics = [name for feature in schema.statistics for name in (*feature.numeric, *feature.ends)]
    named: dict[str, Collection[str]] = dict(schema.towers.items())
    for role, columns in (("categorical", schema.categorical), ("numeric", schema.numeric)):
        for pattern in getattr(config, role):
            if is_pattern(pattern, columns):
                named[pattern] = match_columns([pattern], columns, f"schema.{role}")
    named["crosses"] = [name for name in schema.crosses if name not in schema.products]
    named["sequences"] = [*_sequences(schema), *statistics]
    groups: dict[tuple[str, ...], FeatureSet] = {}
    for name, members in named.items():
        used = tuple(member for member in read if member in members)
        if used:
            groups.setdefault(used, feature_set(name, used, schema))
    encoded = tuple(schema.encodings)
    encodings = [FeatureSet(ENCODINGS, encoded, encoded=frozenset(encoded))] if encoded else []
    return [*groups.values(), *encodings]


def _sequences(schema: Schema) -> list[str]:
    tokens = [sequence.name for sequence in schema.token_sequences]
    return tokens + [sequence.name for sequence in schema.column_sequences]
