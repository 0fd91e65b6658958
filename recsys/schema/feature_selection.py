"""Selects a model's features and frequency thresholds without preparing the data again."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import by_column, match_columns
from recsys.schema.resolved import Schema


class FeatureConfig(StrictModel):
    """A selection among the prepared features."""

    leave_out: tuple[str, ...] = ()
    """Names and patterns of categorical features, including crosses, that the model does not read."""
    leave_out_numeric: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Names and patterns of columns of numbers and vectors that the model does not read, but as steps of a sequence."""
    leave_out_encodings: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Names and patterns of features and products whose encodings from counts the model does not read."""
    encodings: bool = Field(default=True, exclude_if=lambda value: value)
    """Whether the model reads the encodings of `schema.encodings`."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """A higher frequency threshold than in the preparation; more values share the rare bucket."""
    min_count_by_column: dict[str, Annotated[int, Field(ge=1)]] = {}
    """The threshold of vocabularies, by name or pattern: a name takes precedence, then the last matching pattern."""

    def select(self, schema: Schema) -> Schema:
        """Returns the schema without the features that are left out, and without products, which are only encoded.

        Raises:
            InputError: for an unknown feature or the target item.
        """
        numbers = set(match_columns(self.leave_out_numeric, schema.numeric_features, "features.leave_out_numeric"))
        vectors = tuple(vector for vector in schema.vectors if vector.name not in numbers)
        numbers |= {column for vector in schema.vectors if vector.name in numbers for column in vector.columns}
        named = [name for name in schema.categorical if name not in schema.products]
        dropped = set(match_columns(self.leave_out, named, "features.leave_out"))
        if schema.target_item in dropped:
            raise InputError(f"features.leave_out: {schema.target_item!r} is schema.target_item: keep it")

        dropped |= schema.products.keys() | numbers

        def without_dropped(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if name not in dropped)

        towers = {tower: without_dropped(names) for tower, names in schema.towers.items()}
        categorical, numeric = without_dropped(schema.categorical), without_dropped(schema.numeric)
        return schema.model_copy(
            update={"categorical": categorical, "numeric": numeric, "vectors": vectors, "towers": towers}
        )

    def encoded(self, schema: Schema) -> tuple[str, ...]:
        """Returns the features and products whose encodings the model reads.

        Raises:
            InputError: for an unknown feature.
        """
        dropped = match_columns(self.leave_out_encodings, schema.encodings, "features.leave_out_encodings")
        return tuple(name for name in schema.encodings if self.encodings and name not in dropped)

    def floor(self, vocabulary: str, prepared: int, vocabularies: Collection[str]) -> int:
        """Returns the frequency threshold of a vocabulary.

        Args:
            vocabulary: name of the vocabulary.
            prepared: the threshold of the preparation.
            vocabularies: names of all vocabularies.

        Raises:
            InputError: for a threshold below that of the preparation, which did not store rarer values.
        """
        min_count = by_column(self.min_count or prepared, self.min_count_by_column, vocabulary, vocabularies)
        if min_count < prepared:
            raise InputError(
                f"features: a min_count of {min_count} for {vocabulary!r} is below the {prepared} of the prepared "
                f"data: raise it, or prepare the data again with prepare.min_count={min_count}"
            )
        return min_count


ALL_FEATURES = FeatureConfig()
"""All features with the frequency thresholds of the preparation."""
