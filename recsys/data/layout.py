"""File names of a prepared data set and the models of its JSON files."""

from dataclasses import dataclass
from urllib.parse import quote

from pydantic import ConfigDict, Field

from recsys.config import StrictModel
from recsys.data.config import PrepareConfig
from recsys.data.groups import Group, Partition
from recsys.data.transforms import NumericStats
from recsys.schema.config import SchemaConfig
from recsys.schema.kinds import Kind
from recsys.schema.resolved import Schema

FORMAT_VERSION = 4
READABLE_VERSIONS = (3, 4)
"""3: without users, forward windows and a tuning part; histories from the log hold steps of the same day or split."""
BLOCK_ROWS = 65_536
"""Rows of a record batch. Only the last batch is smaller, so a row's batch number is row // BLOCK_ROWS."""

SCHEMA_FILE, VOCAB_FILE, STATS_FILE, GROUPS_FILE = "schema.json", "vocab.json", "stats.json", "folds.json"
ROWS_FILE, IDS_FILE, ITEMS_FILE, VALUES_FILE = "rows.arrow", "ids.arrow", "items.arrow", "values.arrows"
COUNTS_FILE, FOLD_INDICES_FILE, TRUTH_FILE = "vocab_counts.npy", "fold_indices.npy", "truth.npy"
ENCODING_COUNTS_FILE = "encoding_counts.npy"
"""[2, codes, groups] int32: rows and clicks of the codes of each encoded feature, end to end; absent without any."""
PAST_COUNTS_FILE = "past_counts.npy"
"""[rows, 2 features] int32: rows and clicks before each row with its value of each feature that is encoded by earlier
rows; -1 for rows that are encoded by all fitting rows. Absent without such features."""
CONFIG_FILE = "config.yaml"
"""The config that the data was prepared with. DONE does not list it: its training settings may be edited."""
GENERATOR_FILE = "generator.json"
"""Configuration of the generator that made the rows; absent for other data."""
LABEL, GROUP, SPARSE, DENSE, SEQUENCE_LENGTH, ROW_ID = "label", "group", "sparse", "dense", "seq_length", "row_id"
DAY = "day"
"""Index of a row's day among the sorted days; -1 for a row without a day."""
PAST_COUNTS = "past_counts"
"""The column of `PAST_COUNTS_FILE`."""
TIME = "time"
"""Rank of a row's time among the times of the training files; -1 for rows of other files. Only of a split by time."""
WEIGHT = "weight"
"""float32 weight of a row; absent if rows have no weights."""
USER = "user"
"""User of a row, a number from 0 to n_users - 1; -1 for null. Absent if the schema names no user."""
ITEM = "item"
"""Target item of a row, as a row number in items.arrow; -1 for null."""


def tokens_file(sequence: str) -> str:
    """Returns the file name of a token sequence: one list<int32> of codes per row."""
    return f"tokens_{quote(sequence, safe='')}.arrow"


class Manifest(StrictModel):
    """schema.json: the inputs of the preparation and the resolved schema."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    format_version: int
    fingerprint: str
    """Hash of the schema, the settings and the raw files' names, sizes and modification times."""
    name: str
    schema_: Schema = Field(alias="schema")
    schema_config: SchemaConfig
    prepare: PrepareConfig
    holdout_day: str | None = Field(alias="last_day")
    """The last day, on which the `holdout` split is evaluated; None with fewer than two days."""
    kinds: dict[str, Kind]
    """Kinds of the source columns of features in the training files."""
    n_rows: int
    test_files: tuple[str, ...] = ()
    """Files of the test partition."""
    truth_file: str | None = None
    """File of the generator's true probabilities."""

    @property
    def has_folds_by_user(self) -> bool:
        """Whether all training rows of a user are in one fold."""
        return self.prepare.folds.is_by_user(self.schema_.user)


class Groups(StrictModel):
    """folds.json: the groups, in the order of their rows in fold_indices.npy."""

    groups: tuple[Group, ...]


class SequenceStats(StrictModel):
    """Lengths of a token sequence in the training rows, before truncation."""

    mean_length: float
    max_length: int
    n_empty: int


@dataclass(frozen=True)
class SplitStats:
    """Numeric statistics of one split's fitting rows."""

    numeric: dict[str, NumericStats]
    """By column."""
    missing_indicators: tuple[tuple[str, ...], ...]
    """The columns of each missing indicator; these columns are null in the same rows."""


class WeightStats(StrictModel):
    """Weights of the training rows."""

    n_effective: float
    """Effective sample size, (sum w)^2 / sum w^2."""
    n_clipped: int
    """Rows whose weight was clipped to `schema.weight.max`."""


class Stats(StrictModel):
    """stats.json."""

    n_rows: dict[Partition, int]
    n_sampled_rows: int
    n_copies: int = 0
    """Training rows that equal an earlier one in every column that is read; not counted if rows have ids."""
    weights: WeightStats | None = Field(default=None, exclude_if=lambda value: value is None)
    sampling_rate: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """The rate at which negatives were kept before the log came, if it is a single one: given, or computed from
    `prepare.true_base_rate` and the training rows."""
    sequences: dict[str, SequenceStats]
    numeric: dict[str, dict[str, NumericStats]]
    """By split and column, over the split's fitting rows."""
    missing_indicators: dict[str, tuple[tuple[str, ...], ...]]
    """By split: the columns of each missing indicator."""

    def of_split(self, name: str) -> SplitStats:
        """Returns the statistics of one split."""
        return SplitStats(self.numeric[name], self.missing_indicators[name])
