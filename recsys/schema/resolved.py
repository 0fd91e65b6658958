"""The resolved schema: a user's roles as column names, in an order that does not depend on the raw files."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import has_columns, is_pattern, match_columns, nearest
from recsys.schema.config import (
    ColumnsSequence,
    Condition,
    LeaveLastOut,
    LogSequence,
    SchemaConfig,
    SideTable,
    TimeSplit,
    TowerName,
    rename_ad_tower,
)
from recsys.schema.encodings import Encodings, PastRows, kinds_of_past, products_of, resolve_encodings
from recsys.schema.features import ColumnsFeature, StatisticsFeature, TokenFeature, VectorFeature
from recsys.schema.formulas import Formula, parse_formulas
from recsys.schema.kinds import AS_WRITTEN, ValueForm
from recsys.schema.segments import SegmentConfig, ValueSegment
from recsys.schema.token_sequences import token_feature
from recsys.schema.vectors import resolve_vectors
from recsys.schema.weights import RowWeight, row_weight


class Schema(StrictModel):
    """Resolved roles. `num_embeddings` and `dense` depend on the fitting rows: see `PreparedDataset.split`.

    `categorical`, `numeric` and `token_sequences` include derived features, which are not in the files: crosses,
    statistics, formulas, components of vectors and log sequences.
    """

    label: str | None
    """None: every row is a positive."""
    label_condition: Condition | None = None
    """The condition that positives meet; None if the label column contains 0 and 1."""
    id: str | None
    day: str | None
    user: str | None = Field(default=None, exclude_if=lambda value: value is None)
    split: str | None
    time_split: TimeSplit | None = None
    """The times at which splits begin; None if the split column contains split names."""
    last_out: LeaveLastOut | None = None
    """Splits off each key's last rows as valid and test; None if a column defines the split."""
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    token_sequences: tuple[TokenFeature, ...]
    column_sequences: tuple[ColumnsFeature, ...]
    crosses: dict[str, tuple[str, ...]] = {}
    products: dict[str, tuple[str, ...]] = Field(default={}, exclude_if=lambda value: not value)
    """Crosses whose values are only encoded from counts: no model has embeddings of them."""
    encodings: Encodings = Field(default={}, exclude_if=lambda value: not value)
    encodings_past: PastRows | None = Field(default=None, exclude_if=lambda value: value is None)
    statistics: tuple[StatisticsFeature, ...] = ()
    vectors: tuple[VectorFeature, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Their components are the last numeric columns."""
    formulas: dict[str, Formula] = Field(default={}, exclude_if=lambda value: not value)
    """How numeric columns that are not in the files are computed from columns of the files."""
    logs: dict[str, LogSequence] = {}
    """Definitions of the sequences that are built from the log, by token sequence."""
    towers: Annotated[dict[TowerName, tuple[str, ...]], BeforeValidator(rename_ad_tower)]
    target_item: str | None
    segments: dict[str, SegmentConfig]
    side_tables: dict[str, SideTable]
    numbers_as_text: tuple[str, ...] = ()
    weight: RowWeight | None = Field(default=None, exclude_if=lambda value: value is None)
    value_forms: dict[str, ValueForm] = {}
    """How the values of a vocabulary, or of a column that only crosses read, are compared; `AS_WRITTEN` if omitted."""
    key_forms: dict[str, ValueForm] = {}
    """How the values of a key column of a side table are compared, by `TABLE.COLUMN`."""
    offsets: dict[str, float] = {}
    """By numeric column: a number that is subtracted before values are narrowed to float32, which could not tell large
    values that are close together apart."""
    num_embeddings: dict[str, int] = {}
    """Rows of each embedding table, by vocabulary."""
    dense: tuple[str, ...] = ()
    """Column names of `Batch.dense`: numeric columns, missing indicators, encodings from counts, any extra column."""
    missing_indicators: tuple[tuple[str, ...], ...] = ()
    """The columns of each missing indicator, in the order of the indicators in `dense`."""

    def form_of(self, name: str) -> ValueForm:
        """The form of the values of a vocabulary, or of a column that only crosses read."""
        return self.value_forms.get(name, AS_WRITTEN)

    @property
    def measured(self) -> tuple[str, ...]:
        """The numeric columns and the columns that are only steps of a sequence, each once."""
        steps = [column for feature in self.column_sequences for column in feature.columns]
        return self.numeric + tuple(dict.fromkeys(c for c in steps if c not in self.numeric))

    @property
    def numeric_features(self) -> tuple[str, ...]:
        """The numeric columns, with the names of vectors in place of their components."""
        components = {column for vector in self.vectors for column in vector.columns}
        numbers = [column for column in self.numeric if column not in components]
        return (*numbers, *(vector.name for vector in self.vectors))

    def measured_of(self, names: Collection[str]) -> frozenset[str]:
        """The measured columns of some features: numbers, components of vectors, and steps of groups of columns."""
        steps = [column for feature in self.column_sequences if feature.name in names for column in feature.columns]
        components = [column for vector in self.vectors if vector.name in names for column in vector.columns]
        return frozenset([*(name for name in self.numeric if name in names), *steps, *components])

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """The features that share each vocabulary: categorical columns, then token sequences."""
        features: dict[str, list[str]] = {name: [name] for name in self.categorical}
        for sequence in self.token_sequences:
            features.setdefault(sequence.vocabulary, []).append(sequence.name)
        return {name: tuple(names) for name, names in features.items()}

    @property
    def past_encoded(self) -> tuple[str, ...]:
        """The categorical features with encodings that count earlier rows."""
        return tuple(name for name, kinds in self.encodings.items() if kinds_of_past(kinds))

    @property
    def derived_categorical(self) -> dict[str, tuple[str, ...]]:
        """The source columns of each derived categorical feature."""
        column = {sequence.name: sequence.column for sequence in self.token_sequences}
        ends = {name: (column[feature.sequence],) for feature in self.statistics for name in feature.ends}
        return self.crosses | ends

    @property
    def derived_numeric(self) -> tuple[str, ...]:
        """The numeric columns that are not in the files."""
        statistics = [name for feature in self.statistics for name in feature.numeric]
        return (*statistics, *self.formulas, *(name for vector in self.vectors for name in vector.columns))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of the files that are read as numbers: measured ones, and those that only formulas read."""
        derived = set(self.derived_numeric)
        measured = [name for name in self.measured if name not in derived]
        return tuple(dict.fromkeys([*measured, *(c for formula in self.formulas.values() for c in formula.columns)]))

    @property
    def source_columns(self) -> tuple[str, ...]:
        """All columns of the files that features are computed from."""
        single = [name for name in self.categorical if name not in self.derived_categorical]
        derived_from = [column for columns in self.derived_categorical.values() for column in columns]
        tokens = [sequence.column for sequence in self.token_sequences]
        vectors = [vector.name for vector in self.vectors]
        source_columns = dict.fromkeys([*single, *derived_from, *self.numbers, *tokens, *vectors])
        return tuple(column for column in source_columns if column not in self.logs)


def resolve_schema(config: SchemaConfig, columns: Collection[str], origin: str = "the training data") -> Schema:
    """Resolves the roles to columns of the training files and their side tables.

    Args:
        config: the roles as a user writes them.
        columns: names of the columns.
        origin: the file of the columns, for messages.

    Raises:
        InputError: for a role without a matching column, a column with two roles, or a derived name that is in use.
    """
    names = set(columns)
    if config.label_column is not None and config.label_column not in names:
        suggestion = nearest(config.label_column, names)
        raise InputError(
            f"schema.label: {origin} has no column {config.label_column!r}{suggestion} ({has_columns(names)}): "
            "training files need labels, and text files a first line with the names of the columns"
        )
    weight = row_weight(config.weight, config.sampling_rate)
    single = (("schema.day", config.day), ("schema.user", config.user), ("schema.split", config.split_column))
    for role, column in (*single, *([(weight.role, weight.column)] if weight else [])):
        if column is not None:
            match_columns([column], names, role)

    if isinstance(config.split, LeaveLastOut):
        match_columns([config.split.key, config.split.order], names, "schema.split")
    named = {name for name in (*config.categorical, *config.numeric) if not is_pattern(name, names)}
    if ignored := sorted(named & set(config.ignore)):
        raise InputError(f"schema: {ignored[0]!r} is a feature and is ignored: remove one of the two")
    if both := sorted(named & set(config.categorical) & set(config.numeric)):
        raise InputError(f"schema: {both[0]!r} is both categorical and numeric: list it under one of them")
    no_features = {config.label_column, config.weight_column}
    reserved = {*no_features, config.id, config.day, config.user, config.split_column} - named
    usable = names - reserved - {c for c in match_columns(config.ignore, names, "schema.ignore") if c not in named}
    for role, column in (("label", config.label_column), ("weight", config.weight_column)):
        if column in named or (role == "weight" and column is not None and column == config.label_column):
            other = "a feature" if column in named else "the label"
            raise InputError(f"schema: {column!r} is the {role} and cannot also be {other}: remove one of the roles")
        if column is not None and column == config.user:
            raise InputError(f"schema.user: {column!r} is the {role}, not the user: name the column of the user")

    def features(role: Literal["categorical", "numeric"]) -> tuple[str, ...]:
        other_role = set(config.numeric if role == "categorical" else config.categorical)
        excluded = {name for name in other_role if not is_pattern(name, names)} | (set(config.vectors) - named)
        return tuple(match_columns(getattr(config, role), usable - excluded, f"schema.{role}"))

    categorical, numeric = features("categorical"), features("numeric")
    if both := sorted(set(categorical) & set(numeric)):
        raise InputError(f"schema: {both[0]!r} is both categorical and numeric: list it under one of them")
    if clash := sorted(set(config.sequences) & set(categorical)):
        raise InputError(f"schema.sequences: {clash[0]!r} is also a categorical column: rename the sequence")

    column_sequences: list[ColumnsFeature] = []
    token_sequences: list[TokenFeature] = []
    for name, sequence in config.sequences.items():
        role = f"schema.sequences.{name}"
        if isinstance(sequence, ColumnsSequence):
            matched = match_columns(sequence.columns, usable, role)
            column_sequences.append(ColumnsFeature(name=name, columns=tuple(matched)))
        else:
            token_sequences.append(token_feature(name, sequence, config, categorical, names, usable))
    encodings = {} if config.encodings == "auto" else config.encodings  # `prepare` chooses them
    if config.encodings_past is not None:
        match_columns([config.encodings_past.order], names, "schema.encodings_past.order")
    products = products_of(encodings, usable)
    crosses = {
        name: tuple(match_columns(members, names - no_features, f"schema.crosses.{name}"))
        for name, members in (config.crosses | products).items()
    }
    statistics = tuple(
        StatisticsFeature(sequence=name)
        for name, sequence in config.sequences.items()
        if not isinstance(sequence, ColumnsSequence) and sequence.statistics
    )
    logs = {name: sequence for name, sequence in config.sequences.items() if isinstance(sequence, LogSequence)}
    statistics_categorical = [name for feature in statistics for name in feature.ends]
    statistics_numeric = [name for feature in statistics for name in feature.numeric]
    formulas = parse_formulas(config.derived, names - no_features)
    for name in (*crosses, *statistics_categorical, *statistics_numeric, *formulas, *logs):
        if name in names:
            raise InputError(f"schema: the data already has a column {name!r}: rename the derived feature")
    categorical = (*categorical, *crosses, *statistics_categorical)
    numeric = (*numeric, *statistics_numeric, *formulas)
    roles = dict.fromkeys(categorical, "categorical") | dict.fromkeys(numeric, "numeric")
    vectors = resolve_vectors(config.vectors, usable, roles | dict.fromkeys(config.sequences, "a sequence"))
    of_columns = [feature.name for feature in column_sequences]
    encoded = resolve_encodings(encodings, categorical, products, token_sequences, of_columns)

    all_features = {*categorical, *numeric, *config.sequences, *config.vectors}
    if not all_features:
        raise InputError("schema: no categorical, numeric, vector or sequence column is listed: list at least one")
    if config.target_item is not None:
        match_columns([config.target_item], categorical, "schema.target_item")
    for name, segment in config.segments.items():
        if isinstance(segment, ValueSegment):
            match_columns([segment.column], categorical, f"schema.segments.{name}.column")
        else:
            match_columns([segment.sequence], [t.name for t in token_sequences], f"schema.segments.{name}.sequence")

    return Schema(
        label=config.label_column,
        label_condition=config.label if isinstance(config.label, Condition) else None,
        id=config.id,
        day=config.day,
        user=config.user,
        split=config.split_column,
        time_split=config.split if isinstance(config.split, TimeSplit) else None,
        last_out=config.split if isinstance(config.split, LeaveLastOut) else None,
        categorical=categorical,
        numeric=(*numeric, *(column for vector in vectors for column in vector.columns)),
        token_sequences=tuple(token_sequences),
        column_sequences=tuple(column_sequences),
        crosses=crosses,
        products=products,
        encodings=encoded,
        encodings_past=config.encodings_past,
        statistics=statistics,
        vectors=tuple(vectors),
        formulas=formulas,
        logs=logs,
        towers={
            tower: tuple(match_columns(patterns, all_features, f"schema.towers.{tower}"))
            for tower, patterns in config.towers.items()
        },
        target_item=config.target_item,
        segments=config.segments,
        side_tables=config.side_tables,
        numbers_as_text=tuple(match_columns(config.numbers_as_text, names, "schema.numbers_as_text")),
        weight=weight,
    )
