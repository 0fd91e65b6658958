"""config.yaml of a run folder: the settings of a run, and where they came from; written and read in one place.

The file of a ranking or retrieval run is a config that the same pipeline takes: `python -m pipelines.rank --config
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
_PACKAGES = ("gatectr", "torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy", "lightgbm", "faiss-cpu")
_PROVENANCE = ("command", "versions")


class RunData(StrictModel):
    """The prepared data set that a run was trained on."""

    folder: str
    fingerprint: str


class ScoreFeature(StrictModel):
    """A retrieval run whose scores a ranking model reads."""

    run: str
    fingerprint: str
    """Of its scores."""


class RunSection(StrictModel):
    """The section `run`: what the command line and the machine add to the settings."""

    data: RunData | None = None
    splits: tuple[str, ...] = ()
    """That models were fitted to."""
    score_feature: ScoreFeature | None = None
    reranker: str | None = None
    """Of a retrieval run."""
    command: str | None = None
    versions: dict[str, str] = {}
    """Of the packages that results depend on."""


class RunConfig(BaseModel):
    """config.yaml of a ranking run, as those who load its models read it."""

    model_config = ConfigDict(frozen=True)

    features: FeatureConfig = FeatureConfig()
    model: Values
    """Values of the model's own config."""
    trainer: Values
    """Values of its trainer's config."""
    run: RunSection


def with_provenance(values: Mapping[str, Any]) -> Values:
    """Settings with the command and the package versions of this process."""
    section = values.get(RUN_SECTION, {}) | {"command": _command(), "versions": package_versions()}
    return {**values, RUN_SECTION: section}


def identity(values: Mapping[str, Any]) -> Values:
    """Settings without what may differ between two starts of the same run."""
    section = {key: value for key, value in values.get(RUN_SECTION, {}).items() if key not in _PROVENANCE}
    for name, place in (("data", "folder"), ("score_feature", "run")):
        if isinstance(section.get(name), dict):
            section[name] = {key: value for key, value in section[name].items() if key != place}
    return {**{key: value for key, value in values.items() if key != RUN_SECTION}, RUN_SECTION: section}


def package_versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _command() -> str:
    """The command line of this process, as it could be given again."""
    script = Path(sys.argv[0])
    name = script.parent.name if script.stem == "__main__" else script.stem
    return shlex.join(["python", "-m", f"pipelines.{name}", *sys.argv[1:]])


def read_values(run: Path) -> Values:
    """The settings of a finished run.

    Raises:
        InputError: when config.yaml was changed or is no mapping.
    """
    verify(run, CONFIG_FILE)
    path = run / CONFIG_FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({error}): the run is not whole") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings: the run is not whole")
    return _with_run_section(values)


def read_run_config(run: Path) -> RunConfig:
    """The settings of a finished ranking run.

    Raises:
        InputError: when it is no ranking run.
    """
    values = read_values(run)
    if not {"model", "trainer"} <= values.keys():
        raise InputError(f"{run / CONFIG_FILE} is not the config of a ranking run")
    return validate(RunConfig, values, str(run / CONFIG_FILE))


def read_run_section(run: Path) -> RunSection:
    """The section `run` of a finished run of any kind."""
    values = read_values(run).get(RUN_SECTION, {})
    return validate(RunSection, values, str(run / CONFIG_FILE), f"{RUN_SECTION}.")


def _with_run_section(values: Values) -> Values:
    """Values as earlier versions wrote them, with the data, the splits and the scores in the section `run`."""
    data = values.get("data")
    if RUN_SECTION in values or not isinstance(data, dict):
        return values
    splits = values.get("splits") or [values["split"]]
    section: Values = {"data": {"folder": "", "fingerprint": data["fingerprint"]}, "splits": splits}
    if "scores" in values:
        section["score_feature"] = {"run": "", "fingerprint": values["scores"]}
    return {**values, RUN_SECTION: section}
