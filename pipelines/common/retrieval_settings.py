"""The `retrieval` section of a config."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from retrieval.auto import AutoModel
from retrieval.config import IndexConfig, PositivesOf, RetrievalTrainerConfig
from retrieval.two_tower import TwoTowerConfig


class RetrievalSettings(AutoModel):
    """The `retrieval` section of a config; `pipelines.parts.retrieval_defaults` chooses `auto_keys` without a value."""

    auto_keys: ClassVar[frozenset[str]] = frozenset({"exclude_seen", "score_parts"})

    renamed_keys: ClassVar[Mapping[str, str]] = {"hits": "positives"}

    positives: PositivesOf = "clicked"
    """Which rows are positives, whose item should be retrieved; all rows of data without a label."""
    exclude_seen: bool = False
    """Whether the items of a request's history are ranked last and are no candidates; auto: if rows never have an item
    of their own history."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """Half-life in days of a row's weight in the popularity that the towers start from; null: equal weights."""
    model: TwoTowerConfig = TwoTowerConfig()
    trainer: RetrievalTrainerConfig = RetrievalTrainerConfig()
    index: IndexConfig = IndexConfig()
    score_parts: Annotated[int, Field(ge=2)] | None = 2
    """Number of parts for cross-fitted scores. scores.parquet holds the logit of each row's own pair, computed for a
    fitting row by towers that are fitted without its part, so that a ranking model can use the score as a feature.
    null skips these fits and the file."""
    candidates: Annotated[int, Field(ge=1, le=500)] = 100
    """Candidates of each request in candidates.parquet, which ranking models score."""

    @model_validator(mode="after")
    def _check_score_parts(self) -> "RetrievalSettings":
        is_set = "score_parts" in self.model_fields_set and self.score_parts is not None
        if self.model.is_sequential and is_set:
            raise ValueError(
                f"model.pooling={self.model.pooling} trains on every step of a history, so that no part of the rows is "
                "unseen: set score_parts=null"
            )
        return self
