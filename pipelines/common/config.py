"""The sections of a YAML config, and how a pipeline puts config and command line together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, model_validator

from ranking.gbdt import GBDTTrainerConfig
from ranking.models import ModelConfig, config_class, model_names, trainer_class
from recsys.config import StrictModel, Values, load_yaml, merge, parse_overrides, validate, warn_of_new_name
from recsys.data.config import PrepareConfig, RawFiles
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.runs.config import RUN_SECTION, RunSection
from recsys.schema.config import SchemaConfig
from recsys.schema.feature_selection import FeatureConfig
from recsys.synthetic import GeneratorConfig
from recsys.training.config import TrainerConfig
from retrieval.config import PositivesOf, RetrievalTrainerConfig
from retrieval.index import IndexConfig
from retrieval.two_tower import TwoTowerConfig

_RANK_KEYS = ("trainer", "model", "models", "features", "show_sharding", RUN_SECTION)
_RUN_KEYS = (*_RANK_KEYS, "retrieval")
_RENAMED_SECTIONS = {"plan_only": "show_sharding"}
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

    def dump(self) -> Values:
        """The values of these sections, as a YAML file holds them."""
        return self.model_dump(mode="json", by_alias=True)


def read_layers(path: Path, overrides: Sequence[str]) -> Values:
    """A config file under the command line's overrides."""
    return merge(load_sections(path), parse_overrides(overrides))


def load_sections(path: Path) -> Values:
    """A config file, with the sections of earlier versions under today's names."""
    values = load_yaml(path)
    for old in _RENAMED_SECTIONS.keys() & values.keys():
        warn_of_new_name(old, _RENAMED_SECTIONS[old])
        values[_RENAMED_SECTIONS[old]] = values.pop(old)
    return values


def data_section(values: Values, origin: str) -> DataConfig:
    """The part of a config that says which data."""
    return validate(DataConfig, {key: value for key, value in values.items() if key not in _RUN_KEYS}, origin)


def load_data_config(path: Path, overrides: Sequence[str]) -> DataConfig:
    """Reads the data part of a config file, with overrides."""
    return data_section(read_layers(path, overrides), str(path))


class ShowShardingConfig(StrictModel):
    """Sizes that `--show-sharding` assumes."""

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
    show_sharding: ShowShardingConfig
    run: RunSection
    """Of a config that a run folder holds; else empty."""


def _mapping(values: Any, path: Path, key: str) -> Values:
    """A section as a mapping of names; one that is left empty has none."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} must hold a mapping of keys to values, got {values!r}")
    return {str(name): value for name, value in values.items()}


def load_rank_config(path: Path, model: str | None, overrides: Sequence[str]) -> RankConfig:
    """Reads a config file for one model.

    Args:
        path: the file.
        model: its name; None takes the one that the file's `model.name` gives, as that of a finished run does.
        overrides: KEY=VALUE settings over the file's.

    Settings count in this order: the command line, the config's `models.NAME` section (`model`, `trainer` and
    `features`), its `trainer` and `features` sections, the defaults.

    Raises:
        InputError: for an unknown key or a wrong value.
    """
    file, given = load_sections(path), parse_overrides(overrides)
    if model is None:
        model = _named_model(file, path)
    model_class = config_class(model)  # first: a wrong name is told before anything else
    models = _mapping(file.pop("models", None), path, "models")
    known = model_names()
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
        model=validate(model_class, values.get("model") or {}, origin, "model."),
        trainer=validate(section, values.get("trainer") or {}, origin, "trainer."),
        features=validate(FeatureConfig, values.get("features") or {}, origin, "features."),
        show_sharding=validate(ShowShardingConfig, values.get("show_sharding") or {}, origin, "show_sharding."),
        run=validate(RunSection, values.get(RUN_SECTION) or {}, origin, f"{RUN_SECTION}."),
    )


def _named_model(file: Values, path: Path) -> str:
    section = file.get("model")
    name = section.get("name") if isinstance(section, dict) else None
    if name is None:
        raise InputError(f"{path} names no model: pass --model, one of {', '.join(model_names())}")
    return str(name)


class RetrievalSettings(StrictModel):
    """The `retrieval` section of a config."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"hits": "positives"}

    positives: PositivesOf = "clicked"
    """Which rows name an ad that should have been retrieved."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """After so many days a row counts half for the popularity that the towers start from; null counts all alike."""
    model: TwoTowerConfig = TwoTowerConfig()
    trainer: RetrievalTrainerConfig = RetrievalTrainerConfig()
    index: IndexConfig = IndexConfig()
    score_parts: Annotated[int, Field(ge=2)] | None = 2
    """scores.parquet holds the logit of every row's own pair: a fitting row's by towers that were fitted without the
    part it is in, so that the score can be a feature of a ranking model. null writes none, and fits no such towers."""
    candidates: Annotated[int, Field(ge=1, le=500)] = 100
    """Ads of each request that candidates.parquet holds, for ranking models to score."""

    @model_validator(mode="after")
    def _honest_scores(self) -> "RetrievalSettings":
        if self.model.pooling == "causal" and self.score_parts is not None:
            raise ValueError(
                "model.pooling=causal learns from every step of a history, so that no part of the rows is unseen: "
                "set score_parts=null"
            )
        return self


@dataclass(frozen=True)
class RetrievalConfig:
    """A retrieval run: its data, and how ads are retrieved."""

    data: DataConfig
    retrieval: RetrievalSettings
    run: RunSection
    """Of a config that a run folder holds; else empty."""


def load_retrieval_config(path: Path, overrides: Sequence[str]) -> RetrievalConfig:
    """Reads a config file for retrieval.

    Settings count in this order: the command line, the config's `retrieval` section, the defaults. On the command line
    the section's name is left out: `model.output_dim=32`.

    Raises:
        InputError: for an unknown key or a wrong value.
    """
    file, given = load_sections(path), parse_overrides(overrides)
    names = {*RetrievalSettings.model_fields, *RetrievalSettings.renamed_keys}
    mine = {key: value for key, value in given.items() if key in names}
    others = {key: value for key, value in given.items() if key not in mine}
    if wrong := sorted(set(others) & set(_RUN_KEYS)):
        raise InputError(f"{wrong[0]!r} is no setting of a retrieval run: give those of its section, without its name")
    origin = str(path) if not overrides else f"{path} with overrides"
    section = merge(file.get("retrieval") or {}, mine)
    return RetrievalConfig(
        data=data_section(merge(file, others), origin),
        retrieval=validate(RetrievalSettings, section, origin),
        run=validate(RunSection, file.get(RUN_SECTION) or {}, origin, f"{RUN_SECTION}."),
    )
