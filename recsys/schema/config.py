"""Which column plays which role, as a user writes it in a YAML file: names, and patterns such as `history_b_*`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel, warn_of_new_name
from recsys.patterns import is_pattern

TowerName = Literal["user", "item", "context"]


def rename_ad_tower(towers: Any) -> Any:
    """Towers by name, where earlier versions called that of the item `ad`."""
    if not isinstance(towers, dict):
        return towers
    return {"item" if name == "ad" else name: columns for name, columns in towers.items()}


class Condition(StrictModel):
    """Says of each value of a column whether it counts: numbers from `min` to `max`, or one of `values`; null never."""

    column: str
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Condition":
        has_range = self.min is not None or self.max is not None
        if has_range == (self.values is not None):
            raise ValueError(f"a condition on {self.column!r} takes min and max, or values: give one of the two")
        return self


class TimeSplit(StrictModel):
    """Splits the training files' rows in time: those from `valid_from` on are valid, those from `test_from` on test."""

    column: str
    valid_from: float | str | None = None
    test_from: float | str


class LeaveLastOut(StrictModel):
    """Splits the training files' rows by key: the last one of each in time is test, the one before it valid.

    Rows of one moment follow each other in the order of the files.
    """

    key: str
    order: str
    """A number, time or ISO date that rises with time."""
    min_rows: int = Field(default=3, ge=3)
    """Keys with fewer rows are trained on as they are."""


class _Sequence(StrictModel):
    max_length: int = Field(default=50, ge=1)
    vocabulary: str | None = None
    """A categorical column (or another sequence) whose embedding table this one shares."""
    statistics: bool = False
    """Adds features of the uncut sequence: numeric NAME_length, NAME_distinct, NAME_diversity (distinct / length),
    NAME_entropy (nats), and categorical NAME_first, NAME_last."""


class _TokenSequence(_Sequence):
    column: str | None = None
    """The column that holds the sequence; the feature's own name when left out."""
    keep: Literal["first", "last", "spread"] = "last"
    """Which tokens of a longer sequence are kept: those of one end, the recent one, or some at even distances."""


class DelimitedSequence(_TokenSequence):
    """Tokens in one string: `"9,18,269"`."""

    kind: Literal["delimited"]
    delimiter: str = ","

    @model_validator(mode="after")
    def _one_ascii_character(self) -> "DelimitedSequence":
        if len(self.delimiter.encode()) != 1:
            raise ValueError(f"delimiter must be one ASCII character, got {self.delimiter!r}")
        return self


class ListSequence(_TokenSequence):
    """Tokens in an Arrow list column."""

    kind: Literal["list"]


class LogSequence(_Sequence):
    """The items of earlier rows with the same key, built from the log itself: a history that no file brings.

    A row's sequence holds the rows of all files whose `order` is lower than its own: never itself, nor a row of the
    same moment. Where `where` reads the label, judge by a time split: a random fold's labels stand in later histories.
    """

    kind: Literal["log"]
    key: str
    """Whose history: the user's column."""
    item: str
    """What a step of it is; its table is shared where it is a categorical column, unless `vocabulary` names another."""
    order: str
    """A number, time or ISO date that rises with time."""
    where: Condition | None = None
    """Which rows leave a step in later histories; all when left out."""
    ties: Literal["exclude", "file"] = "exclude"
    """Rows of the same moment: left out of each other's histories, or taken in the order of the files."""


class ColumnsSequence(StrictModel):
    """A group of numeric columns read as one sequence with one value per step."""

    kind: Literal["columns"]
    columns: tuple[str, ...]


SequenceConfig = Annotated[
    DelimitedSequence | ListSequence | LogSequence | ColumnsSequence, Field(discriminator="kind")
]


class LengthSegment(StrictModel):
    """Rows told apart by the uncut length of a sequence; label k holds lengths in [edges[k-1], edges[k])."""

    kind: Literal["length"]
    sequence: str
    edges: tuple[int, ...]
    labels: tuple[str, ...]

    @model_validator(mode="after")
    def _one_more_label_than_edges(self) -> "LengthSegment":
        if len(self.labels) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must rise and labels be one more, got edges={self.edges}, labels={self.labels}")
        return self


class ValueSegment(StrictModel):
    """Rows told apart by the value of a categorical column."""

    kind: Literal["value"]
    column: str


SegmentConfig = Annotated[LengthSegment | ValueSegment, Field(discriminator="kind")]


class SideTable(StrictModel):
    """A parquet file joined to every row by a key column that both have."""

    file: str
    key: str
    columns: tuple[str, ...]
    """Names or patterns of the columns to take."""


class SchemaConfig(StrictModel):
    """The roles as a user writes them; lists take names and patterns, and a name beats a pattern."""

    label: str | Condition
    """The column of 0 and 1, or a condition that clicks meet."""
    id: str | None = None
    """Names each row. A training file may lack it: the row's number over all files is then its name."""
    day: str | None = None
    """Orders rows in time; its last value is the time holdout. Not a feature unless `categorical` names it."""
    split: str | TimeSplit | LeaveLastOut | None = None
    """The column that says train, valid or test for each row, or the times that valid and test begin at, or whose last
    rows they are."""
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    sequences: dict[str, SequenceConfig] = {}
    crosses: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] = {}
    """Interactions with a table of their own: a categorical feature for each combination of the columns' values."""
    ignore: tuple[str, ...] = ()
    towers: dict[TowerName, tuple[str, ...]] = {}
    target_item: str | None = None
    """The categorical column that a behaviour sequence is matched against: the ad."""
    segments: dict[str, SegmentConfig] = {}
    side_tables: dict[str, SideTable] = {}

    @field_validator("towers", mode="before")
    @classmethod
    def _read_earlier_tower_name(cls, towers: Any) -> Any:
        if isinstance(towers, dict) and "ad" in towers:
            warn_of_new_name("schema.towers.ad", "schema.towers.item")
        return rename_ad_tower(towers)

    @property
    def label_column(self) -> str:
        """The column that the label is read from."""
        return self.label if isinstance(self.label, str) else self.label.column

    @property
    def split_column(self) -> str | None:
        """The column that splits are read from, where it is one."""
        if isinstance(self.split, LeaveLastOut):
            return None
        return self.split.column if isinstance(self.split, TimeSplit) else self.split

    def named_columns(self) -> set[str]:
        """The columns that are named in full; those that only a pattern stands for are not among them."""
        every = [*self.categorical, *self.numeric, *(c for columns in self.crosses.values() for c in columns)]
        every += [c for c in (self.label_column, self.id, self.day, self.split_column) if c is not None]
        if isinstance(self.split, LeaveLastOut):
            every += [self.split.key, self.split.order]
        for name, sequence in self.sequences.items():
            match sequence:
                case ColumnsSequence():
                    every += sequence.columns
                case LogSequence():
                    every += [sequence.key, sequence.item, sequence.order]
                    every += [sequence.where.column] if sequence.where else []
                case _:
                    every.append(sequence.column or name)
        return {column for column in every if not is_pattern(column)}
