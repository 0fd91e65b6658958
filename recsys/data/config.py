"""Settings of data preparation and the raw files it reads."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.config import StrictModel
from recsys.defaults import AUTO, Auto

NumericTransform = Literal["standardize", "log", "quantile_normal", "none"]
Paths = tuple[str, ...]


class RawFiles(StrictModel):
    """Parquet files, folders of parquet files or globs, by split. Relative paths start at the data folder."""

    folder: str | None = None
    """Default name of the data folder."""
    train: Paths = ()
    valid: Paths = ()
    test: Paths = ()
    truth: str | None = None
    """Parquet file of the generator's true probabilities; read if it exists, reported beside the metrics, never a
    feature."""


class FoldsConfig(StrictModel):
    """How training rows are divided into folds, forward windows and a tuning part."""

    by: Literal["auto", "user", "row"] = "auto"
    """What a fold consists of: `user`: all rows of a user are in one fold, so that evaluation rows are of users that
    the model has not seen; `row`: copies of a row share a fold. `auto`: user if `schema.user` names a column."""
    n_windows: Annotated[int, Field(ge=1, le=20)] = 3
    """Number of forward windows: the last days, or without days the parts of the last half of the rows in time."""
    tuning_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.0
    """Share of the users (or rows) that no fold evaluates. Their rows before the first window are the evaluation rows
    of the split `tuning`: settings chosen on them saw no reported row."""

    def is_by_user(self, user: str | None) -> bool:
        """Whether all training rows of a user are in one fold.

        Args:
            user: the column of `schema.user`.
        """
        return user is not None and self.by != "row"


class PrepareConfig(StrictModel):
    """Settings of vocabularies, statistics and folds.

    `*_by_column` maps names and patterns; a name takes precedence, then the last pattern that matches.
    """

    seed: int = 0
    n_folds: Annotated[int, Field(ge=2, le=100)] = 5
    folds: FoldsConfig = FoldsConfig()
    stratify: Literal["hash", "exact"] = "hash"
    """`hash`: a row's fold depends only on the seed and its id or user, so classes are balanced in expectation.
    `exact`: the rows of a class are assigned to the folds in turn, in hash order, so folds differ by at most one row
    per class; with folds by user, so are the users with a click, and those without."""
    min_count: Auto[Annotated[int, Field(ge=1)]] = AUTO
    """Frequency threshold: values with fewer occurrences in the training rows share the rare bucket."""
    min_count_by_column: dict[str, Annotated[int, Field(ge=1)]] = {}
    numeric_transform: NumericTransform = "quantile_normal"
    numeric_transform_by_column: dict[str, NumericTransform] = {}
    clip_quantile: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.001
    """Numbers are clipped to the quantiles q and 1 - q before the transform; 0 clips at the minimum and maximum."""
    n_sampled_rows: Annotated[int, Field(ge=1_000)] = 200_000
    """Numeric statistics are taken on about this many training rows, chosen by the hash of their ids."""
    true_base_rate: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    """The click rate of the full log, if negatives were sampled before the log came: p is then at this rate."""
