"""The sections of a YAML config, and how a pipeline puts config and command line together."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict, Field

from recsys.config import Values, load_yaml, merge, parse_overrides, validate
from recsys.prepare.config import PrepareConfig, RawFiles
from recsys.schema import SchemaConfig, StrictModel

DATA_KEYS = ("name", "files", "generator", "schema", "prepare")
RANK_KEYS = ("trainer", "models")


class GeneratorSize(StrictModel):
    """The size of the generated data that stands in where no data is named."""

    n_rows: int = Field(default=200_000, ge=1)
    seq_strength: float = Field(default=0.1, ge=0)
    seed: int = 0


class DataConfig(StrictModel):
    """Which data: its name, raw files, schema and preparation."""

    model_config = ConfigDict(validate_by_name=True)

    name: str
    files: RawFiles
    generator: GeneratorSize | None = None
    """Set where the data can be generated."""
    schema_: SchemaConfig = Field(alias="schema")
    prepare: PrepareConfig = PrepareConfig()


def read_layers(path: Path, overrides: Sequence[str]) -> Values:
    """A config file under the command line's overrides."""
    return merge(load_yaml(path), parse_overrides(overrides))


def data_section(values: Values, origin: str) -> DataConfig:
    """The part of a config that says which data."""
    return validate(DataConfig, {key: value for key, value in values.items() if key not in RANK_KEYS}, origin)


def load_data_config(path: Path, overrides: Sequence[str]) -> DataConfig:
    """Reads the data part of a config file, with overrides."""
    return data_section(read_layers(path, overrides), str(path))
