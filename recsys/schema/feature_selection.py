"""Which of a prepared data set's features a model reads, and how finely: settings that ask for no new preparation."""

from typing import Annotated

from pydantic import Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import by_column, match_columns
from recsys.schema.resolved import Schema


class FeatureConfig(StrictModel):
    """A choice among what was prepared."""

    leave_out: tuple[str, ...] = ()
    """Categorical features, crosses among them, that the model does not read: names and patterns."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """A higher frequency floor than the one that was prepared with; more values share the rare bucket."""
    min_count_by_column: dict[str, Annotated[int, Field(ge=1)]] = {}
    """The same for some vocabularies, by name or pattern; the last match wins."""

    def select(self, schema: Schema) -> Schema:
        """The schema without what is left out.

        Raises:
            InputError: for a feature that there is not, or one that is the target.
        """
        dropped = set(match_columns(self.leave_out, schema.categorical, "features.leave_out"))
        if schema.target_item in dropped:
            raise InputError(f"features.leave_out: {schema.target_item!r} is schema.target_item: keep it")

        def kept(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if name not in dropped)

        towers = {tower: kept(names) for tower, names in schema.towers.items()}
        return schema.model_copy(update={"categorical": kept(schema.categorical), "towers": towers})

    def floor(self, vocabulary: str, prepared: int) -> int:
        """The frequency floor of a vocabulary.

        Args:
            vocabulary: its name.
            prepared: the floor it was counted with.

        Raises:
            InputError: for a floor below that: the values under it are known no more.
        """
        wanted = by_column(self.min_count or prepared, self.min_count_by_column, vocabulary)
        if wanted < prepared:
            raise InputError(
                f"features: a min_count of {wanted} for {vocabulary!r} is below the {prepared} it was prepared with: "
                f"raise it, or prepare the data again with prepare.min_count={wanted}"
            )
        return wanted


ALL_FEATURES = FeatureConfig()
"""Every feature, as finely as it was prepared."""
