"""The sections of a YAML config, and how a pipeline puts config and command line together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field

from ranking.gbdt import GBDTTrainerConfig
from ranking.models import ModelConfig, ModelName, config_class, trainer_class
from recsys.config import StrictModel, Values, load_yaml, merge, parse_overrides, validate
from recsys.errors import InputError
from recsys.feature_selection import FeatureConfig
from recsys.patterns import nearest
from recsys.prepare.config import PrepareConfig, RawFiles
from recsys.schema_config import SchemaConfig
from recsys.synthetic import GeneratorConfig
from recsys.training.config import TrainerConfig

_RANK_KEYS = ("trainer", "model", "models", "features", "plan_only")
_MODEL_KEYS = {"model", "trainer", "features"}


class DataConfig(StrictModel):
    """Which data: its name, raw files, schema and preparation."""

    model_config = ConfigDict(validate_by_name=True)

    name: str
    files: RawFiles
    generator: GeneratorConfig | None = None
    """Set where the data can be generated."""
    schema_: SchemaConfig = Field(alias="schema")
    prepare: PrepareConfig = PrepareConfig()


def read_layers(path: Path, overrides: Sequence[str]) -> Values:
    """A config file under the command line's overrides."""
    return merge(load_yaml(path), parse_overrides(overrides))


def data_section(values: Values, origin: str) -> DataConfig:
    """The part of a config that says which data."""
    return validate(DataConfig, {key: value for key, value in values.items() if key not in _RANK_KEYS}, origin)


def load_data_config(path: Path, overrides: Sequence[str]) -> DataConfig:
    """Reads the data part of a config file, with overrides."""
    return data_section(read_layers(path, overrides), str(path))


class PlanOnlyConfig(StrictModel):
    """What `--plan-only` is to suppose."""

    num_embeddings: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Rows of embedding tables, in place of the data's; where all are given no data is needed."""
    sequence_lengths: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Ids a row has on average; `max_length` where none is given."""


@dataclass(frozen=True)
class RankConfig:
    """A ranking run: its data, its model, what that reads of the data and how it is trained."""

    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig | GBDTTrainerConfig
    features: FeatureConfig
    plan_only: PlanOnlyConfig


def _mapping(values: Any, path: Path, key: str) -> Values:
    """A section as a mapping of names; one that is left empty has none."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} must hold a mapping of keys to values, got {values!r}")
    return {str(name): value for name, value in values.items()}


def load_rank_config(path: Path, model: ModelName, overrides: Sequence[str]) -> RankConfig:
    """Reads a config file for one model.

    Settings count in this order: the command line, the config's `models.NAME` section (`model`, `trainer` and
    `features`), its `trainer` and `features` sections, the defaults.

    Raises:
        InputError: for an unknown key or a wrong value.
    """
    file, given = load_yaml(path), parse_overrides(overrides)
    models = _mapping(file.pop("models", None), path, "models")
    known = get_args(ModelName)
    for name in models:
        if name not in known:
            raise InputError(f"{path}: models.{name}: there is no such model{nearest(name, known)}")
    own = _mapping(models.get(model), path, f"models.{model}")
    if unknown := sorted(set(own) - _MODEL_KEYS):
        known_keys = ", ".join(sorted(_MODEL_KEYS))
        raise InputError(f"{path}: unknown key 'models.{model}.{unknown[0]}': it takes {known_keys}")
    # The file's trainer section is for all models: trees take from it what they know.
    shared, section = file.get("trainer") or {}, trainer_class(model)
    if isinstance(shared, dict):
        taken = {*section.model_fields} | (shared.keys() - {*TrainerConfig.model_fields})
        file["trainer"] = {key: value for key, value in shared.items() if key in taken}
    values, origin = merge(file, own, given), str(path) if not overrides else f"{path} with overrides"
    return RankConfig(
        data=data_section(values, origin),
        model=validate(config_class(model), values.get("model") or {}, origin, "model."),
        trainer=validate(section, values.get("trainer") or {}, origin, "trainer."),
        features=validate(FeatureConfig, values.get("features") or {}, origin, "features."),
        plan_only=validate(PlanOnlyConfig, values.get("plan_only") or {}, origin, "plan_only."),
    )
