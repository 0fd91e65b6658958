"""The `retrieval` section of a config."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from retrieval.auto import AutoModel
from retrieval.config import IndexConfig, PositivesOf, RetrievalTrainerConfig
from retrieval.evaluation.exclusion import Exclude
from retrieval.two_tower import TwoTowerConfig


class RetrievalSettings(AutoModel):
    """The `retrieval` section of a config; `pipelines.parts.retrieval_defaults` chooses `auto_keys` without a value."""

    auto_keys: ClassVar[frozenset[str]] = frozenset({"exclude", "score_parts"})

    renamed_keys: ClassVar[Mapping[str, str]] = {"hits": "positives", "exclude_seen": "exclude"}

    positives: PositivesOf = "clicked"
    """Which rows are positives, whose item should be retrieved; all rows of data without a label."""
    exclude: Exclude = "none"
    """The items that are ranked last and are no candidates: seen: those of the request's history; table: those that
    `exclude_table` lists; auto: seen if rows never have an item of their own history, else none."""
    exclude_table: str | None = None
    """A parquet file with the column of the target item, and a column of the requests such as the user: the pairs that
    `exclude: table` excludes."""
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

    @field_validator("exclude", mode="before")
    @classmethod
    def _read_earlier_values(cls, value: Any) -> Any:
        """Reads the values of `exclude_seen`, the key of earlier versions."""
        return ("seen" if value else "none") if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check_table(self) -> "RetrievalSettings":
        if (self.exclude == "table") != (self.exclude_table is not None):
            raise ValueError("exclude=table and exclude_table belong together: set both, or none of them")
        return self

    @model_validator(mode="after")
    def _check_score_parts(self) -> "RetrievalSettings":
        is_set = "score_parts" in self.model_fields_set and self.score_parts is not None
        if self.model.is_sequential and is_set:
            raise ValueError(
                f"model.pooling={self.model.pooling} trains on every step of a history, so that no part of the rows is "
                "unseen: set score_parts=null"
            )
        return self
