"""The roles of columns as a user writes them in a YAML file: names, and patterns such as `history_b_*`."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel, warn_of_new_name
from recsys.patterns import is_pattern
from recsys.schema.encodings import EncodingConfig, PastRows, check_past
from recsys.schema.segments import SegmentConfig
from recsys.schema.vectors import VectorsConfig
from recsys.schema.weights import SamplingRate, WeightColumn, row_weight

TowerName = Literal["user", "item", "context"]


def rename_ad_tower(towers: Any) -> Any:
    """Renames the tower `ad` of earlier versions to `item`."""
    if not isinstance(towers, dict):
        return towers
    return {"item" if name == "ad" else name: columns for name, columns in towers.items()}


def _as_text(value: Any) -> str:
    """The text of a value in the data, if YAML read it as a number, a boolean or a date."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(int(value)) if float(value).is_integer() else repr(value)
        case date():
            return value.isoformat()
    raise ValueError(f"a value of a condition must be text, got {value!r}: write it in quotes")


class Condition(StrictModel):
    """A condition on the values of a column: numbers from `min` to `max`, or one of `values`; null never meets it."""

    column: str
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _read_as_text(cls, values: Any) -> Any:
        return tuple(_as_text(value) for value in values) if isinstance(values, (list, tuple)) else values

    @model_validator(mode="after")
    def _check_range_or_values(self) -> "Condition":
        has_range = self.min is not None or self.max is not None
        if has_range == (self.values is not None):
            raise ValueError(f"a condition on {self.column!r} takes min and max, or values: give one of the two")
        return self


class TimeSplit(StrictModel):
    """Splits the training files' rows by time: rows from `valid_from` on are valid, from `test_from` on test.

    A time is a number, or ISO-8601 text; a date stands for its midnight, in the time zone of the column.
    """

    column: str
    valid_from: float | str | None = None
    test_from: float | str

    @field_validator("valid_from", "test_from", mode="before")
    @classmethod
    def _read_time(cls, value: Any) -> Any:
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, bool):
            raise ValueError(f"a time is a number, a date or a time, got {value!r}")
        is_inexact = isinstance(value, int) and float(value) != value
        return str(value) if is_inexact else value


class LeaveLastOut(StrictModel):
    """Splits the training files' rows by key: each key's last row in time is test, the row before it is valid.

    Rows with equal time keep the order of the files.
    """

    key: str
    order: str
    """Column of numbers, dates, timestamps or ISO-8601 text that increases with time."""
    min_rows: int = Field(default=3, ge=3)
    """All rows of keys with fewer rows are training rows."""


class _Sequence(StrictModel):
    max_length: int = Field(default=50, ge=1)
    vocabulary: str | None = None
    """A categorical column or another sequence whose embedding table this sequence shares."""
    statistics: bool = False
    """Adds features of the sequence before truncation: numeric NAME_length, NAME_distinct, NAME_diversity (distinct /
    length), NAME_entropy (nats), and categorical NAME_first, NAME_last."""


class _TokenSequence(_Sequence):
    column: str | None = None
    """The column of the sequence; the feature's name if omitted."""
    keep: Literal["first", "last", "spread"] = "last"
    """Which tokens of a longer sequence to keep: the first, the last (most recent), or evenly spaced tokens."""


class DelimitedSequence(_TokenSequence):
    """Tokens in one string: `"9,18,269"`."""

    kind: Literal["delimited"]
    delimiter: str = ","

    @model_validator(mode="after")
    def _check_delimiter(self) -> "DelimitedSequence":
        if len(self.delimiter.encode()) != 1:
            raise ValueError(f"delimiter must be one ASCII character, got {self.delimiter!r}")
        return self


class ListSequence(_TokenSequence):
    """Tokens in an Arrow list column."""

    kind: Literal["list"]


class LogSequence(_Sequence):
    """The items of earlier rows with the same key: a history that is built from the log, not read from a column.

    A row's sequence contains the rows of all files with a lower `order`, never the row itself; see `ties` for rows with
    equal `order`, and `history_until` for rows that are evaluated together. If `where` reads the label, later histories
    contain the labels of random folds: make folds by user (`schema.user` is the key), or evaluate forward in time.
    """

    kind: Literal["log"]
    key: str
    """Column of the key, such as the user."""
    item: str
    """Column of the item of a step. A categorical column shares its embedding table unless `vocabulary` is set."""
    order: str
    """Column of numbers, dates, timestamps or ISO-8601 text that increases with time."""
    where: Condition | None = None
    """Which rows add a step to later histories; all rows if omitted."""
    ties: Literal["exclude", "file"] = "exclude"
    """Rows with equal `order`: excluded from each other's histories, or ordered as in the files."""
    history_until: Literal["split", "row"] = "split"
    """Where the history of an evaluated row ends: `split`: it has no step of the same part (valid, test, the last day
    or a forward window), as if all rows of the part were scored at once before any of their labels is known; `row`: the
    steps of its part before it count too, as if each label were known before the next row is scored."""


class ColumnsSequence(StrictModel):
    """A group of numeric columns read as one sequence with one value per step."""

    kind: Literal["columns"]
    columns: tuple[str, ...]


SequenceConfig = Annotated[
    DelimitedSequence | ListSequence | LogSequence | ColumnsSequence, Field(discriminator="kind")
]


_OneOrMore = Annotated[tuple[str, ...], Field(min_length=1)]


class SideTable(StrictModel):
    """A table that is joined to the rows by common key columns."""

    file: str | _OneOrMore
    """Files, folders and patterns; the rows of all files are one table."""
    key: str | _OneOrMore
    """The columns that identify a row of the table; the data has them too."""
    columns: tuple[str, ...]
    """Names or patterns of the columns to join."""

    @model_validator(mode="after")
    def _check_keys(self) -> "SideTable":
        if repeated := [key for key in self.keys if self.keys.count(key) > 1]:
            raise ValueError(f"key lists {repeated[0]!r} twice: list each key column once")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The paths and patterns."""
        return (self.file,) if isinstance(self.file, str) else self.file

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns."""
        return (self.key,) if isinstance(self.key, str) else self.key


class SchemaConfig(StrictModel):
    """The roles as a user writes them. Lists take names and patterns; a name takes precedence over a pattern."""

    label: str | Condition | None = None
    """The column of 0 and 1, or a condition that positives meet; none for a log of positives only, for retrieval."""
    id: str | None = None
    """The column of row ids. Training files may lack it: the ids are then row numbers over all files."""
    day: str | None = None
    """Numbers of days, dates, times, whose calendar day counts, or names of weekdays, from Monday on; the last day is
    the holdout, and the last days are the forward windows. It is a feature only if `categorical` names it."""
    user: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The column of the user: folds and confidence intervals are by user. It is a feature only if `categorical` names
    it. Valid and test files may lack it."""
    split: str | TimeSplit | LeaveLastOut | None = None
    """The column with train, valid or test for each row, or the times at which valid and test begin, or the key whose
    last rows are valid and test."""
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vectors: VectorsConfig = Field(default={}, exclude_if=lambda value: not value)
    """Columns of lists of a fixed number of numbers, such as embeddings of texts or images."""
    sequences: dict[str, SequenceConfig] = {}
    crosses: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] = {}
    """Feature crosses: each is a categorical feature of the combinations of values, with its own embedding table."""
    derived: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)
    """Numeric features computed from columns of numbers, which need no role of their own: `"clicks / views"`, null
    where it divides by 0, or `"cyclic(hour, 24)"`, which gives NAME_sin and NAME_cos."""
    encodings: EncodingConfig | Literal["auto"] = Field(default={}, exclude_if=lambda value: not value)
    """Encodings from counts, by categorical feature, pattern, product of columns such as `"ad*site"`, or sequence of
    tokens. auto: those of all categorical features, those of earlier rows too if `encodings_past` is set, and of the
    pairs that a search in `prepare` finds worth it."""
    encodings_past: PastRows | None = Field(default=None, exclude_if=lambda value: value is None)
    """Which rows the encodings `past_count` and `past_ctr` count."""
    ignore: tuple[str, ...] = ()
    numbers_as_text: tuple[str, ...] = ()
    """Names and patterns of columns of text that contain numbers: they are read as numbers in every role."""
    towers: dict[TowerName, tuple[str, ...]] = {}
    target_item: str | None = None
    """The categorical column of the candidate item, such as the ad, which behavior sequences are matched against."""
    segments: dict[str, SegmentConfig] = {}
    side_tables: dict[str, SideTable] = {}
    weight: WeightColumn | str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The column of row weights, which is no feature: in the loss, the metrics and all that is fitted to predictions, a
    row of weight w counts as w rows. Test files may lack it."""
    sampling_rate: SamplingRate | None = Field(default=None, exclude_if=lambda value: value is None)
    """The rate at which negatives were kept before the log came: p is that of the full log."""

    @model_validator(mode="after")
    def _check_one_weight(self) -> "SchemaConfig":
        if self.weight is not None and self.sampling_rate is not None:
            raise ValueError("weight and sampling_rate are both set: multiply them into one column of weights")
        return self

    @model_validator(mode="after")
    def _check_past(self) -> "SchemaConfig":
        if self.encodings != "auto":
            check_past(self.encodings, self.encodings_past, self.sequences)
        return self

    @field_validator("towers", mode="before")
    @classmethod
    def _rename_ad_tower(cls, towers: Any) -> Any:
        if isinstance(towers, dict) and "ad" in towers:
            if "item" in towers:
                raise ValueError("'ad' is the earlier name of 'item', and both are set: remove 'ad'")
            warn_of_new_name("schema.towers.ad", "schema.towers.item")
        return rename_ad_tower(towers)

    @property
    def label_column(self) -> str | None:
        """The column that the label is read from; None without a label."""
        return self.label.column if isinstance(self.label, Condition) else self.label

    @property
    def weight_column(self) -> str | None:
        """The column that row weights are read from, or None."""
        weight = row_weight(self.weight, self.sampling_rate)
        return None if weight is None else weight.column

    @property
    def split_column(self) -> str | None:
        """The column that splits are read from, or None."""
        if isinstance(self.split, LeaveLastOut):
            return None
        return self.split.column if isinstance(self.split, TimeSplit) else self.split

    def named_columns(self) -> set[str]:
        """Returns the columns that are named in full, without those matched only by a pattern."""
        names = [*self.categorical, *self.numeric, *self.vectors]
        names += [c for columns in self.crosses.values() for c in columns]
        single = (self.label_column, self.id, self.day, self.user, self.split_column, self.weight_column)
        names += [c for c in single if c is not None]
        names += [self.encodings_past.order] if self.encodings_past else []
        if isinstance(self.split, LeaveLastOut):
            names += [self.split.key, self.split.order]
        for name, sequence in self.sequences.items():
            match sequence:
                case ColumnsSequence():
                    names += sequence.columns
                case LogSequence():
                    names += [sequence.key, sequence.item, sequence.order]
                    names += [sequence.where.column] if sequence.where else []
                case _:
                    names.append(sequence.column or name)
        return {column for column in names if not is_pattern(column)}
