"""Features of sequences, with the columns of the data."""

from typing import Literal

from recsys.config import StrictModel


class TokenFeature(StrictModel):
    """A resolved token sequence."""

    name: str
    column: str
    delimiter: str | None
    """None for a list column."""
    max_length: int
    keep: Literal["first", "last", "spread"]
    vocabulary: str


class StatisticsFeature(StrictModel):
    """Features of a whole token sequence, before truncation."""

    sequence: str

    @property
    def numeric(self) -> tuple[str, ...]:
        """The numeric columns, in the order of `recsys.raw.sequences.statistics`."""
        return tuple(f"{self.sequence}_{name}" for name in ("length", "distinct", "diversity", "entropy"))

    @property
    def ends(self) -> dict[str, Literal["first", "last"]]:
        """The categorical columns and the token that each contains."""
        return {f"{self.sequence}_first": "first", f"{self.sequence}_last": "last"}


class ColumnsFeature(StrictModel):
    """A resolved group of columns: step k is the value of columns[k]."""

    name: str
    columns: tuple[str, ...]


class VectorFeature(StrictModel):
    """A resolved vector column."""

    name: str
    size: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The numeric columns of its components."""
        return tuple(f"{self.name}_{index}" for index in range(self.size))
