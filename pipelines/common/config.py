"""Sections of a YAML config, and how a pipeline merges the config and the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from pipelines.common.keys import Sections, check_places
from pipelines.common.layers import load_sections, override_sections, read_layers
from pipelines.common.model_choice import check_model_sections, choose_model, is_artifact, section_mapping
from pipelines.common.own_code import name_own_code
from pipelines.common.retrieval_settings import RetrievalSettings
from ranking.model_config import DeepModelConfig
from ranking.models import ModelConfig, config_class, known_configs, trainer_class
from ranking.trees.config import GBDTTrainerConfig
from recsys.config import StrictModel, Values, merge, validate
from recsys.data.config import PrepareConfig, RawFiles
from recsys.errors import InputError
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.shown import EvaluationConfig, named_metrics
from recsys.own_code import is_path
from recsys.runs.config import EVALUATION_SECTION, RUN_SECTION, RunSection
from recsys.schema.config import SchemaConfig
from recsys.schema.feature_selection import FeatureConfig
from recsys.synthetic import GeneratorConfig
from recsys.training.config import TrainerConfig
from retrieval.config import IndexConfig, RetrievalTrainerConfig
from retrieval.two_tower import TwoTowerConfig

_RANK_KEYS = ("trainer", "model", "models", "features", "show_sharding", EVALUATION_SECTION, RUN_SECTION)
_RUN_KEYS = (*_RANK_KEYS, "retrieval")


class DataConfig(StrictModel):
    """The data set: name, raw files, schema and preparation."""

    model_config = ConfigDict(validate_by_name=True)

    name: str
    files: RawFiles = RawFiles()
    generator: GeneratorConfig | None = None
    """Settings of the generator; None if the data cannot be generated."""
    schema_: SchemaConfig = Field(alias="schema")
    prepare: PrepareConfig = PrepareConfig()

    def dump(self) -> Values:
        """These sections as the values of a YAML file."""
        return self.model_dump(mode="json", by_alias=True)


def data_section(values: Values, origin: str) -> DataConfig:
    """The data part of a config.

    Of a log of positives each value counts unless `prepare.min_count` is set: an item below it could not be retrieved.

    Raises:
        InputError: for an unknown section or a wrong value.
    """
    check_places(values, sections(), origin)
    data = validate(DataConfig, {key: value for key, value in values.items() if key not in _RUN_KEYS}, origin)
    if data.schema_.label is None and "min_count" not in data.prepare.model_fields_set:
        return data.model_copy(update={"prepare": data.prepare.model_copy(update={"min_count": 1})})
    return data


def load_data_config(path: Path, overrides: Sequence[str]) -> DataConfig:
    """Reads the data part of a config file, with overrides."""
    return data_section(read_layers(path, overrides), str(path))


def with_data_overrides(file_values: Values, override_values: Values) -> Values:
    """The sections of a file, with the overrides of sections that describe the data."""
    return merge(file_values, {key: value for key, value in override_values.items() if key in _DATA_SECTIONS})


class ShowShardingConfig(StrictModel):
    """Table sizes and sequence lengths that `--show-sharding` assumes."""

    num_embeddings: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Rows of embedding tables, which override those of the data; if all tables are listed, no data is needed."""
    sequence_lengths: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Mean number of ids of a row, by sequence; `max_length` for sequences that are not listed."""


@dataclass(frozen=True)
class RankConfig:
    """A ranking run: data, model, features, training and evaluation."""

    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig | GBDTTrainerConfig
    features: FeatureConfig
    evaluation: EvaluationConfig
    show_sharding: ShowShardingConfig
    run: RunSection
    """The section `run` of a run folder's config; empty for other configs."""
    sections: Values = field(compare=False)
    """All sections as the file and the overrides of the data set them; stored with the data if it is prepared now."""

    def check_roles(self) -> None:
        """Raises InputError if the schema has no label, or lacks a role that the model needs, such as `target_item`."""
        if self.data.schema_.label is None:
            raise InputError(
                f"config {self.data.name!r}: ranking needs a label, a column of 0 and 1: name it in schema.label, or "
                "retrieve items with pipelines.retrieval, which needs none"
            )
        if isinstance(self.model, DeepModelConfig):
            self.model.check_roles(self.data.schema_.sequences, self.data.schema_.target_item)

    @property
    def named_metrics(self) -> tuple[MetricName, ...]:
        """The metrics that the config names, first the one to choose by."""
        stopping = self.trainer.early_stopping
        return named_metrics(self.evaluation.metric, () if stopping is None else stopping.weights)


def sections() -> Sections:
    """All sections of a config."""
    return {
        "model": known_configs(),
        "trainer": [TrainerConfig, GBDTTrainerConfig],
        "features": [FeatureConfig],
        **_DATA_SECTIONS,
        "models": [],
        "retrieval": [RetrievalSettings],
        "show_sharding": [ShowShardingConfig],
        EVALUATION_SECTION: [EvaluationConfig],
        RUN_SECTION: [RunSection],
    }


_DATA_SECTIONS: Sections = {
    "name": [],
    "files": [RawFiles],
    "generator": [GeneratorConfig],
    "schema": [SchemaConfig],
    "prepare": [PrepareConfig],
}


def load_rank_config(path: Path, model: str | None, overrides: Sequence[str]) -> RankConfig:
    """Reads a config file for one model.

    Args:
        path: the file.
        model: name of the model; None takes `model.name` of the file, which the config of a finished run sets.
        overrides: KEY=VALUE settings, which override the file.

    Priority of settings, highest first: the command line, the config's `models.NAME` section (`model`, `trainer` and
    `features`), its `trainer` and `features` sections, the defaults.

    Raises:
        InputError: for an unknown key or a wrong value.
    """
    origin = str(path) if not overrides else f"{path} with overrides"
    return rank_config(load_sections(path), model, override_sections(overrides), path, origin)


def rank_config(file_values: Values, model: str | None, override_values: Values, path: Path, origin: str) -> RankConfig:
    """The settings of a ranking run, from the values of a config and of the overrides; see `load_rank_config`.

    Args:
        file_values: the sections of the config.
        model: as in `load_rank_config`.
        override_values: sections that override those of the config.
        path: the config's file, for error messages and to tell whether a run wrote it.
        origin: the source of the values, for error messages.
    """
    sections = with_data_overrides(file_values, override_values)
    if wrong := sorted({"models", "retrieval"} & override_values.keys()):
        raise InputError(
            f"{wrong[0]!r} is a section of a file, not of a ranking run: pass model.KEY=VALUE, trainer.KEY=VALUE or "
            "features.KEY=VALUE"
        )
    model_sections = section_mapping(file_values.pop("models", None), path, "models")
    model, model_section = choose_model(model, file_values, model_sections, path)
    model_class = config_class(model)  # first: a wrong model name is the first error to report
    check_model_sections(model_sections, path)
    name_own_code(override_values, {} if is_artifact(file_values, path) else merge(file_values, model_section))
    if is_path(model):  # ours have their name as the default
        values_of_model = model_section.get("model")
        named = {"name": model} | (values_of_model if isinstance(values_of_model, dict) else {})
        model_section = {**model_section, "model": named}
    # The trainer section is shared by all models: GBDT ignores the keys that only TrainerConfig has.
    shared_trainer, trainer_config = file_values.get("trainer") or {}, trainer_class(model)
    if isinstance(shared_trainer, dict):
        allowed = {*trainer_config.model_fields} | (shared_trainer.keys() - {*TrainerConfig.model_fields})
        file_values["trainer"] = {key: value for key, value in shared_trainer.items() if key in allowed}
    values = merge(file_values, model_section, override_values)
    return RankConfig(
        data=data_section(values, origin),
        model=validate(model_class, values.get("model") or {}, origin, "model."),
        trainer=validate(trainer_config, values.get("trainer") or {}, origin, "trainer."),
        features=validate(FeatureConfig, values.get("features") or {}, origin, "features."),
        evaluation=validate(EvaluationConfig, values.get(EVALUATION_SECTION) or {}, origin, f"{EVALUATION_SECTION}."),
        show_sharding=validate(ShowShardingConfig, values.get("show_sharding") or {}, origin, "show_sharding."),
        run=validate(RunSection, values.get(RUN_SECTION) or {}, origin, f"{RUN_SECTION}."),
        sections=sections,
    )


@dataclass(frozen=True)
class RetrievalConfig:
    """A retrieval run: data and retrieval settings."""

    data: DataConfig
    retrieval: RetrievalSettings
    run: RunSection
    """The section `run` of a run folder's config; empty for other configs."""
    sections: Values = field(compare=False)
    """As in `RankConfig`."""

    @property
    def missing_roles(self) -> tuple[str, ...]:
        """The keys of the schema that two towers need and that are not set."""
        schema = self.data.schema_
        has_towers = schema.towers.get("item") and (schema.towers.get("user") or schema.towers.get("context"))
        is_missing = {"target_item": schema.target_item is None, "towers": not has_towers}
        return tuple(role for role, missing in is_missing.items() if missing)

    def check_roles(self) -> None:
        """Raises InputError if the schema lacks the target item, or features of the item or of requests."""
        if missing := self.missing_roles:
            raise InputError(
                f"retrieval needs schema.{' and schema.'.join(missing)}: name the item's column, and the columns of "
                "the towers item and user (or context)"
            )


def load_retrieval_config(path: Path, overrides: Sequence[str]) -> RetrievalConfig:
    """Reads a config file for retrieval.

    Priority of settings, highest first: the command line, the config's `retrieval` section, the defaults. Overrides
    omit the section's name: `model.output_dim=32`.

    Raises:
        InputError: for an unknown key or a wrong value.
    """
    file_values, override_values = load_sections(path), override_sections(overrides)
    names = {*RetrievalSettings.model_fields, *RetrievalSettings.renamed_keys}
    own_sections: Sections = {
        **dict.fromkeys(RetrievalSettings.model_fields, ()),
        "model": [TwoTowerConfig],
        "trainer": [RetrievalTrainerConfig],
        "index": [IndexConfig],
        **_DATA_SECTIONS,
    }
    retrieval_overrides = {key: value for key, value in override_values.items() if key in names}
    data_overrides = {key: value for key, value in override_values.items() if key not in retrieval_overrides}
    if wrong := sorted(set(data_overrides) & set(_RUN_KEYS)):
        raise InputError(
            f"{wrong[0]!r} is not a setting of a retrieval run: pass keys of the section 'retrieval' without its name"
        )
    origin = str(path) if not overrides else f"{path} with overrides"
    current = {key: value for key, value in override_values.items() if key not in RetrievalSettings.renamed_keys}
    check_places(current, own_sections, origin)
    section = merge(file_values.get("retrieval") or {}, retrieval_overrides)
    return RetrievalConfig(
        data=data_section(merge(file_values, data_overrides), origin),
        retrieval=validate(RetrievalSettings, section, origin),
        run=validate(RunSection, file_values.get(RUN_SECTION) or {}, origin, f"{RUN_SECTION}."),
        sections=with_data_overrides(file_values, override_values),
    )
