"""The files of a bundle, and the models of its JSON files.

A bundle is a folder: `bundle.json`, `card.json`, `example.json`, the value index of each vocabulary, the encoder of
each split, the graph or trees and the embedding tables of each fit, and `DONE` with the checksum of every file.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from recsys.config import StrictModel
from recsys.data.transforms import NumericStats
from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.stacking import Stack
from recsys.schema.kinds import Kind
from recsys.schema.resolved import Schema

FORMAT_VERSION = 2
BUNDLE_FILE, CARD_FILE, EXAMPLE_FILE = "bundle.json", "card.json", "example.json"
VOCABULARIES, ENCODERS, MODELS = "vocabularies", "encoders", "models"
RETRIEVAL_FILE, INDEX_FILE, ITEMS_FILE, ITEM_CODES_FILE = "retrieval.json", "index.faiss", "items.arrow", "items.npy"
"""Of a bundle with a retrieval run: its spec, the vectors of the items, their columns, and the item of each code."""
RETRIEVAL, ITEM = "retrieval", "(item)"
"""The name of the user tower's files, and of the column of the items' names in `items.arrow`, which no data has."""
VALUES_FILE, HASHES_FILE, CODES_FILE = "values.arrow", "hashes.npy", "codes.npy"
"""Of a vocabulary: its texts by code, their sorted hashes, and the code of each hash."""
IDS_FILE = "ids.npy"
"""Of an encoder: the embedding ids of the codes of all vocabularies, end to end."""

NumberType = Literal["fp32", "fp16", "int8"]


class VocabularySpec(StrictModel):
    """A vocabulary of the data set."""

    folder: str
    n_codes: int
    numbers_refused: str | None = None
    """A text that no column of numbers can contain, of a vocabulary that was read from CSV files; None if numbers can
    equal the values."""


class EncodingSpec(StrictModel):
    """Encodings from counts of one categorical feature or token sequence."""

    feature: str
    file: str
    """[n_codes, E] float32; of tokens, before they are pooled by row and standardized."""
    mean: tuple[float, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Of the columns of a token sequence; empty for a categorical feature."""
    deviation: tuple[float, ...] = Field(default=(), exclude_if=lambda value: not value)


class EncoderSpec(StrictModel):
    """The encoding of rows for one split."""

    name: str
    categorical: tuple[str, ...]
    measured: tuple[str, ...]
    n_numeric: int
    """The first columns of `measured`, which are model inputs."""
    stats: tuple[NumericStats, ...]
    """By measured column."""
    indicators: tuple[int, ...]
    """Positions in `measured` of the columns of the missing indicators."""
    encodings: tuple[EncodingSpec, ...]
    starts: dict[str, int]
    """By vocabulary: the first of its entries in the ids."""
    n_ids: dict[str, int]
    """By vocabulary: rows of an embedding table."""

    @property
    def n_dense(self) -> int:
        """The width of the dense input, without encodings."""
        return self.n_numeric + len(self.indicators)


class LookupSpec(StrictModel):
    """An input of a graph: embeddings of features, side by side."""

    input: str
    features: tuple[str, ...]
    """Categorical features, and token sequences whose embeddings are averaged."""
    first_rows: tuple[int, ...]
    """By feature: the first row of its vocabulary in the table."""
    table: str
    """[rows, D] array, the tables of all vocabularies end to end."""
    scales: str | None = None
    """For int8: [rows] float16, by which the rows of the table are multiplied."""


class HistorySpec(StrictModel):
    """An input of a graph: the events of one sequence, padded to the longest one."""

    name: str
    table: str | None = None
    """[rows, D] array of a token sequence; None for a group of columns, whose values and mask are inputs."""
    scales: str | None = None
    first_row: int = 0
    """The first row of the vocabulary in the table."""
    columns: tuple[int, ...] = ()
    """For a group of columns: positions in `measured`."""


class GraphSpec(StrictModel):
    """A deep model."""

    kind: Literal["onnx"] = "onnx"
    file: str
    lookups: tuple[LookupSpec, ...]
    histories: tuple[HistorySpec, ...] = ()
    shared: tuple[str, ...] = ()
    """Columns of a request whose part in the logit is computed once per user where candidates share them."""

    @property
    def is_of_users(self) -> bool:
        """Whether the graph scores the candidates of users; else it scores rows."""
        return bool(self.histories or self.shared)


class TreesSpec(StrictModel):
    """Trees, in the format of the library that grew them."""

    kind: Literal["lightgbm", "xgboost", "catboost"]
    file: str


class FitSpec(StrictModel):
    """A fitted model, and the map of its logits to natural ones."""

    name: str
    encoder: int
    """Position in `BundleSpec.encoders`."""
    link: LogitLink
    calibrator: Calibrator
    model: Annotated[GraphSpec | TreesSpec, Field(discriminator="kind")]


class MemberSpec(StrictModel):
    """A run: the mean of its fits' calibrated natural logits."""

    name: str
    fits: tuple[FitSpec, ...]


class BundleSpec(StrictModel):
    """bundle.json."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    format_version: int
    name: str
    data: str
    """Fingerprint of the prepared data set."""
    schema_: Schema = Field(alias="schema")
    kinds: dict[str, Kind]
    """Kinds of the source columns in the training files."""
    weights: NumberType
    vocabularies: dict[str, VocabularySpec]
    encoders: tuple[EncoderSpec, ...]
    members: tuple[MemberSpec, ...]
    stack: Stack | None
    """How members are combined; None for a single one."""
    calibrator: Calibrator
    """Of the stacked logits."""
    log_pos_weight: float
    """Balanced logit - natural logit."""
    scale: Literal["natural", "balanced"]
    """The scale of the score in an answer."""


class RetrievalSpec(StrictModel):
    """retrieval.json: the first stage of a bundle with two."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    tower: BundleSpec
    """The user tower, as a bundle whose only model returns vectors."""
    item_columns: tuple[str, ...]
    """The columns of requests that are the item's."""
    histories: tuple[str, ...]
    """The sequences of items that a user has seen."""
