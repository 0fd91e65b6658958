"""The settings of preparation, and the raw files it reads."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.config import StrictModel

NumericTransform = Literal["standardize", "log", "quantile_normal", "none"]
Paths = tuple[str, ...]


class RawFiles(StrictModel):
    """Parquet files, folders of them or globs, by split; relative ones are looked up in the data folder."""

    folder: str | None = None
    """The usual name of the data folder."""
    train: Paths
    valid: Paths = ()
    test: Paths = ()
    truth: str | None = None
    """The generator's parquet file of true probabilities; read where it exists, shown beside the metrics, never a
    feature."""


class PrepareConfig(StrictModel):
    """How vocabularies, statistics and folds are made; `*_by_column` takes names and patterns, the last match wins."""

    seed: int = 0
    n_folds: Annotated[int, Field(ge=2, le=100)] = 5
    stratify: Literal["hash", "exact"] = "hash"
    """`hash`: a row's fold depends on the seed and its id alone, so that classes are balanced in expectation. `exact`:
    each class is dealt out in the order of the hashes, so that folds differ by one row a class at most."""
    min_count: Annotated[int, Field(ge=1)] = 10
    """The frequency floor: a value seen less often in the training rows shares the rare bucket."""
    min_count_by_column: dict[str, Annotated[int, Field(ge=1)]] = {}
    numeric_transform: NumericTransform = "standardize"
    numeric_transform_by_column: dict[str, NumericTransform] = {}
    clip_quantile: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.001
    """Numbers are clipped to this quantile and its mirror before they are transformed; 0 clips at the extremes."""
    n_sampled_rows: Annotated[int, Field(ge=1_000)] = 200_000
    """Numeric statistics are taken on about this many training rows, chosen by the hash of their ids."""
