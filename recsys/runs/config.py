"""config.yaml of a run folder: the settings and the provenance of a run; all reading and writing is in this module.

The config.yaml of a ranking or retrieval run is a valid config of the same pipeline: `python -m pipelines.rank --config
RUN/config.yaml` trains the same model on the same rows.
"""

import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from recsys.config import StrictModel, Values, validate
from recsys.errors import InputError
from recsys.runs.layout import CONFIG_FILE
from recsys.schema.feature_selection import FeatureConfig
from recsys.system.seal import verify

RUN_SECTION = "run"
_PACKAGES = (
    "gatectr",
    "torch",
    "torchrec",
    "fbgemm-gpu",
    "fbgemm-gpu-cpu",
    "numpy",
    "lightgbm",
    "faiss-cpu",
    "faiss-gpu",
)
_PROVENANCE = ("command", "versions")
_DATA_SECTIONS = ("files", "generator", "schema", "prepare")
EVALUATION_SECTION = "evaluation"


class RunData(StrictModel):
    """The prepared data set that a run was trained on."""

    folder: str
    fingerprint: str


class ScoreFeature(StrictModel):
    """A retrieval run whose scores are a feature of a ranking model."""

    run: str
    fingerprint: str
    """Fingerprint of the scores file."""


class RunSection(StrictModel):
    """The section `run`: what the command line and the environment add to the settings."""

    data: RunData | None = None
    splits: tuple[str, ...] = ()
    """The splits that models were fitted to."""
    score_feature: ScoreFeature | None = None
    reranker: str | None = None
    """For a retrieval run: the ranking run that reranks its candidates."""
    command: str | None = None
    versions: dict[str, str] = {}
    """Versions of the packages that results depend on."""


class RunConfig(BaseModel):
    """The parts of a ranking run's config.yaml that loading its models needs."""

    model_config = ConfigDict(frozen=True)

    features: FeatureConfig = FeatureConfig()
    model: Values
    """Values of the model's config."""
    trainer: Values
    """Values of the trainer's config."""
    run: RunSection


def with_provenance(values: Mapping[str, Any]) -> Values:
    """Adds the package versions of this process to settings, and its command if they name none."""
    section = {"command": _command(), **values.get(RUN_SECTION, {}), "versions": package_versions()}
    return {**values, RUN_SECTION: section}


def identity(values: Mapping[str, Any]) -> Values:
    """Settings without the values that may differ between two starts of the same run: provenance, paths and metrics.

    The data's fingerprint replaces the sections that describe the data.
    """
    section = {key: value for key, value in values.get(RUN_SECTION, {}).items() if key not in _PROVENANCE}
    for name, path_key in (("data", "folder"), ("score_feature", "run")):
        if isinstance(section.get(name), dict):
            section[name] = {key: value for key, value in section[name].items() if key != path_key}
    if isinstance(section.get("reranker"), str):
        section["reranker"] = Path(section["reranker"]).name
    ignored = (*_DATA_SECTIONS, EVALUATION_SECTION)
    return {**{key: value for key, value in values.items() if key not in ignored}, RUN_SECTION: section}


def package_versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _command() -> str:
    """The command line that starts this process again."""
    script = Path(sys.argv[0])
    name = script.parent.name if script.stem == "__main__" else script.stem
    return shlex.join(["python", "-m", f"pipelines.{name}", *sys.argv[1:]])


def read_values(run: Path) -> Values:
    """Reads the settings of a finished run.

    Raises:
        InputError: if config.yaml was modified or is not a mapping.
    """
    verify(run, CONFIG_FILE)
    path = run / CONFIG_FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({error}): the run folder is incomplete, run it again") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a mapping of settings: the run folder is incomplete, run it again")
    return _with_run_section(values)


def read_run_config(run: Path) -> RunConfig:
    """Reads the settings of a finished ranking run.

    Raises:
        InputError: if the run is not a ranking run.
    """
    values = read_values(run)
    if not {"model", "trainer"} <= values.keys():
        raise InputError(f"{run / CONFIG_FILE} is not the config of a ranking run")
    return validate(RunConfig, values, str(run / CONFIG_FILE))


def read_run_section(run: Path) -> RunSection:
    """Reads the section `run` of a finished run of any kind."""
    values = read_values(run).get(RUN_SECTION, {})
    return validate(RunSection, values, str(run / CONFIG_FILE), f"{RUN_SECTION}.")


def _with_run_section(values: Values) -> Values:
    """Moves data, splits and scores into the section `run`, for files written by earlier versions."""
    data = values.get("data")
    if RUN_SECTION in values or not isinstance(data, dict):
        return values
    splits = values.get("splits") or [values["split"]]
    section: Values = {"data": {"folder": "", "fingerprint": data["fingerprint"]}, "splits": splits}
    if "scores" in values:
        section["score_feature"] = {"run": "", "fingerprint": values["scores"]}
    return {**values, RUN_SECTION: section}
