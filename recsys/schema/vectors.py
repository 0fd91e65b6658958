"""Vector columns: lists of a fixed number of numbers, such as pretrained text or image embeddings."""

from collections.abc import Collection, Mapping

from pydantic import Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import match_columns
from recsys.schema.features import VectorFeature


class VectorConfig(StrictModel):
    """A vector column."""

    size: int | None = Field(default=None, ge=1)
    """Numbers of each vector; null for the size in the training files, or in the side table of the column."""


VectorsConfig = dict[str, VectorConfig] | tuple[str, ...]
"""By column, or the columns alone."""


def vector_sizes(config: VectorsConfig) -> dict[str, int | None]:
    """The size of each vector column; None if the config does not give it."""
    return {name: config[name].size if isinstance(config, dict) else None for name in config}


def resolve_vectors(config: VectorsConfig, usable: Collection[str], others: Mapping[str, str]) -> list[VectorFeature]:
    """Resolves the vector columns.

    Args:
        config: the vector columns as a user writes them, each with its size.
        usable: the columns of the data that may be features.
        others: the other features, each with its role.

    Raises:
        InputError: for an unknown column, a column with two roles, a size that is not known, or a component with the
            name of another column.
    """
    features = []
    for name, size in vector_sizes(config).items():
        match_columns([name], usable, "schema.vectors")
        if name in others:
            raise InputError(f"schema.vectors: {name!r} is also {others[name]}: remove one of the roles, or rename it")
        if size is None:
            raise InputError(f"schema.vectors.{name}: its size is not known: set size, such as 64")
        features.append(VectorFeature(name=name, size=size))
    for feature in features:
        for column in feature.columns:
            if column in usable or column in others:
                raise InputError(
                    f"schema.vectors.{feature.name}: its components are named {feature.columns[0]!r} to "
                    f"{feature.columns[-1]!r}, and the data already has {column!r}: rename the vector column"
                )
    return features
