"""The files of a prepared data set: their names, and the models of the JSON files."""

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

FORMAT_VERSION = 3
BLOCK_ROWS = 65_536
"""Rows of a record batch; all are full but the last, so that a row's batch is a division."""

SCHEMA_FILE, VOCAB_FILE, STATS_FILE, GROUPS_FILE = "schema.json", "vocab.json", "stats.json", "folds.json"
ROWS_FILE, IDS_FILE, ITEMS_FILE, VALUES_FILE = "rows.arrow", "ids.arrow", "items.arrow", "values.arrows"
COUNTS_FILE, FOLD_INDICES_FILE, TRUTH_FILE = "vocab_counts.npy", "fold_indices.npy", "truth.npy"
GENERATOR_FILE = "generator.json"
"""What the rows were generated from, where they were."""
LABEL, GROUP, SPARSE, DENSE, SEQUENCE_LENGTH, ROW_ID = "label", "group", "sparse", "dense", "seq_length", "row_id"
DAY = "day"
"""Place of a row's day among all days; -1 where it has none."""
ITEM = "item"
"""Which target item a row is of, a number in items.arrow; -1 where it is null."""


def tokens_file(sequence: str) -> str:
    """The file of a token sequence: one list<int32> of codes a row."""
    return f"tokens_{quote(sequence, safe='')}.arrow"


class Manifest(StrictModel):
    """schema.json: what the data set was made from, and its resolved schema."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    format_version: int
    fingerprint: str
    """Of the schema, the settings and the raw files' names, sizes and times."""
    name: str
    schema_: Schema = Field(alias="schema")
    schema_config: SchemaConfig
    prepare: PrepareConfig
    holdout_day: str | None = Field(alias="last_day")
    """The last day, which the `holdout` split is evaluated on; None where there are not two days."""
    kinds: dict[str, Kind]
    """Of the columns that features are read from, as the training files have them."""
    n_rows: int
    test_files: tuple[str, ...] = ()
    """The files of the test partition."""
    truth_file: str | None = None
    """The file of the generator's truth."""


class Groups(StrictModel):
    """folds.json: the groups in whose order fold_indices.npy lists the rows."""

    groups: tuple[Group, ...]


class SequenceStats(StrictModel):
    """Lengths of a token sequence over the training rows, before any cut."""

    mean_length: float
    max_length: int
    n_empty: int


@dataclass(frozen=True)
class SplitStats:
    """The numeric statistics of one split's fitting rows."""

    numeric: dict[str, NumericStats]
    """By column."""
    missing_indicators: tuple[tuple[str, ...], ...]
    """The columns of each missing indicator: they are null in the same rows."""


class Stats(StrictModel):
    """stats.json."""

    n_rows: dict[Partition, int]
    n_sampled_rows: int
    sequences: dict[str, SequenceStats]
    numeric: dict[str, dict[str, NumericStats]]
    """By split and column, over the split's fitting rows."""
    missing_indicators: dict[str, tuple[tuple[str, ...], ...]]
    """By split, the columns of each missing indicator."""

    def of_split(self, name: str) -> SplitStats:
        """The statistics of one split."""
        return SplitStats(self.numeric[name], self.missing_indicators[name])
