"""Which column plays which role: the patterns a user writes, and the schema they resolve to.

`SchemaConfig` is what stands in a YAML file: names and patterns (`history_b_*`). `resolve_schema` matches it with the
columns of the raw files and returns a `Schema`: plain names, in an order that does not depend on the files'.
"""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.errors import InputError
from recsys.patterns import is_pattern, match_columns, nearest

TowerName = Literal["user", "ad", "context"]


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _TokenSequence(StrictModel):
    column: str | None = None
    """The column that holds the sequence; the feature's own name when left out."""
    max_length: int = Field(default=50, ge=1)
    keep: Literal["first", "last"] = "last"
    """Which end of a longer sequence is kept: the recent one."""
    vocabulary: str | None = None
    """A categorical column (or another sequence) whose embedding table this one shares."""


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


class ColumnsSequence(StrictModel):
    """A group of numeric columns read as one sequence with one value per step."""

    kind: Literal["columns"]
    columns: tuple[str, ...]


SequenceConfig = Annotated[DelimitedSequence | ListSequence | ColumnsSequence, Field(discriminator="kind")]


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

    label: str
    id: str | None = None
    """Names each row. A training file may lack it: the row's number over all files is then its name."""
    day: str | None = None
    """Orders rows in time; its last value is the time holdout. Not a feature unless `categorical` names it."""
    split: str | None = None
    """Says train, valid or test for each row."""
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    sequences: dict[str, SequenceConfig] = {}
    ignore: tuple[str, ...] = ()
    towers: dict[TowerName, tuple[str, ...]] = {}
    target_item: str | None = None
    """The categorical column that a behaviour sequence is matched against: the ad."""
    segments: dict[str, SegmentConfig] = {}
    side_tables: dict[str, SideTable] = {}

    def named_columns(self) -> set[str]:
        """The columns that are named in full; those that only a pattern stands for are not among them."""
        groups = [s.columns for s in self.sequences.values() if isinstance(s, ColumnsSequence)]
        tokens = [s.column or name for name, s in self.sequences.items() if not isinstance(s, ColumnsSequence)]
        single = [column for column in (self.label, self.id, self.day, self.split) if column is not None]
        every = [*single, *self.categorical, *self.numeric, *tokens, *(c for group in groups for c in group)]
        return {column for column in every if not is_pattern(column)}


class TokenFeature(StrictModel):
    """A resolved token sequence."""

    name: str
    column: str
    delimiter: str | None
    """None for a list column."""
    max_length: int
    keep: Literal["first", "last"]
    vocabulary: str


class ColumnsFeature(StrictModel):
    """A resolved group of columns: step k holds the value of columns[k]."""

    name: str
    columns: tuple[str, ...]


class Schema(StrictModel):
    """Resolved roles. `num_embeddings` and `dense` depend on the rows that were fitted: see `PreparedDataset.split`."""

    label: str
    id: str | None
    day: str | None
    split: str | None
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    token_sequences: tuple[TokenFeature, ...]
    column_sequences: tuple[ColumnsFeature, ...]
    towers: dict[TowerName, tuple[str, ...]]
    target_item: str | None
    segments: dict[str, SegmentConfig]
    side_tables: dict[str, SideTable]
    num_embeddings: dict[str, int] = {}
    """Rows of each embedding table, by vocabulary."""
    dense: tuple[str, ...] = ()
    """The names of `Batch.dense`'s columns: the numeric ones, then the missing indicators."""

    @property
    def measured(self) -> tuple[str, ...]:
        """The numeric columns and those read only as steps of a sequence, each once."""
        steps = [column for feature in self.column_sequences for column in feature.columns]
        return self.numeric + tuple(dict.fromkeys(c for c in steps if c not in self.numeric))

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """The features that share each vocabulary: categorical columns, then token sequences."""
        features: dict[str, list[str]] = {name: [name] for name in self.categorical}
        for sequence in self.token_sequences:
            features.setdefault(sequence.vocabulary, []).append(sequence.name)
        return {name: tuple(names) for name, names in features.items()}

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every column that a feature is read from."""
        tokens = tuple(sequence.column for sequence in self.token_sequences)
        return tuple(dict.fromkeys(self.categorical + self.measured + tokens))


def resolve_schema(config: SchemaConfig, columns: Collection[str]) -> Schema:
    """Matches the roles against the columns of the training files and their side tables.

    Raises:
        InputError: for a role that no column can play, or a column with two roles.
    """
    names = set(columns)
    if config.label not in names:
        raise InputError(
            f"schema.label: the training data has no column {config.label!r}{nearest(config.label, names)}"
        )
    for role, column in (("schema.day", config.day), ("schema.split", config.split)):
        if column is not None:
            match_columns([column], names, role)

    named = {name for name in (*config.categorical, *config.numeric) if not is_pattern(name)}
    reserved = {config.label, config.id, config.day, config.split} - named
    usable = names - reserved - {c for c in match_columns(config.ignore, names, "schema.ignore") if c not in named}
    if config.label in named:
        raise InputError(f"schema: {config.label!r} is the label and cannot be a feature too: take one role away")

    def features(role: Literal["categorical", "numeric"]) -> tuple[str, ...]:
        other = set(config.numeric if role == "categorical" else config.categorical)
        taken = {name for name in other if not is_pattern(name)}
        return tuple(match_columns(getattr(config, role), usable - taken, f"schema.{role}"))

    categorical, numeric = features("categorical"), features("numeric")
    if both := sorted(set(categorical) & set(numeric)):
        raise InputError(f"schema: {both[0]!r} is both categorical and numeric: name it under one of them")

    tokens: list[TokenFeature] = []
    groups: list[ColumnsFeature] = []
    for name, sequence in config.sequences.items():
        role = f"schema.sequences.{name}"
        if isinstance(sequence, ColumnsSequence):
            groups.append(ColumnsFeature(name=name, columns=tuple(match_columns(sequence.columns, usable, role))))
            continue
        column = sequence.column or name
        match_columns([column], usable, f"{role}.column")
        shared = sequence.vocabulary or name
        if sequence.vocabulary and shared not in categorical and shared not in config.sequences:
            raise InputError(
                f"{role}.vocabulary: {shared!r} is neither a categorical column nor a sequence"
                f"{nearest(shared, (*categorical, *config.sequences))}"
            )
        delimiter = sequence.delimiter if isinstance(sequence, DelimitedSequence) else None
        tokens.append(
            TokenFeature(
                name=name,
                column=column,
                delimiter=delimiter,
                max_length=sequence.max_length,
                keep=sequence.keep,
                vocabulary=shared,
            )
        )
    if clash := sorted(set(config.sequences) & set(categorical)):
        raise InputError(f"schema.sequences: {clash[0]!r} is a categorical column too: give the sequence another name")

    every_feature = {*categorical, *numeric, *config.sequences}
    if not every_feature:
        raise InputError("schema: no categorical, numeric or sequence column is named: name at least one")
    if config.target_item is not None:
        match_columns([config.target_item], categorical, "schema.target_item")
    for name, segment in config.segments.items():
        if isinstance(segment, ValueSegment):
            match_columns([segment.column], categorical, f"schema.segments.{name}.column")
        else:
            match_columns([segment.sequence], [t.name for t in tokens], f"schema.segments.{name}.sequence")

    return Schema(
        label=config.label,
        id=config.id,
        day=config.day,
        split=config.split,
        categorical=categorical,
        numeric=numeric,
        token_sequences=tuple(tokens),
        column_sequences=tuple(groups),
        towers={
            tower: tuple(match_columns(patterns, every_feature, f"schema.towers.{tower}"))
            for tower, patterns in config.towers.items()
        },
        target_item=config.target_item,
        segments=config.segments,
        side_tables=config.side_tables,
    )
