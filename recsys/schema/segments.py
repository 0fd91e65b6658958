"""Segments of rows, for which metrics are computed apart."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel


class LengthSegment(StrictModel):
    """Segments rows by the length of a sequence before truncation; label k is for lengths in [edges[k-1], edges[k])."""

    kind: Literal["length"]
    sequence: str
    edges: tuple[int, ...]
    labels: tuple[str, ...]

    @model_validator(mode="after")
    def _check_edges_and_labels(self) -> "LengthSegment":
        if len(self.labels) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(
                f"edges must increase and labels must have one more entry, got edges={self.edges}, labels={self.labels}"
            )
        return self


class ValueSegment(StrictModel):
    """Segments rows by the value of a categorical column."""

    kind: Literal["value"]
    column: str


SegmentConfig = Annotated[LengthSegment | ValueSegment, Field(discriminator="kind")]
