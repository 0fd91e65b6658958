"""`gatectr config`: every setting has a type, a default and a meaning, and the JSON Schema accepts our configs."""

import json
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from gatectr import command
from gatectr.config_command import chosen_sections, settings_in
from gatectr.reference.json_schema import config_schema
from gatectr.reference.settings import Setting
from gatectr.reference.types import type_text
from pipelines.common.cli import CONFIGS
from ranking.models import model_names
from recsys.config import load_yaml


def by_key(section: str, model: str = "dcnv2") -> dict[str, Setting]:
    return {setting.key: setting for setting in settings_in(section, model)}


@pytest.mark.parametrize("model", model_names())
def test_every_setting_has_a_type_and_a_meaning(model: str) -> None:
    settings = [setting for section in chosen_sections(["all"]) for setting in settings_in(section, model)]
    assert len(settings) > 150
    for setting in settings:
        assert setting.type, setting
        assert setting.meaning, setting
        assert "\n" not in setting.meaning


def test_types_defaults_and_meanings_are_those_of_the_models() -> None:
    model = by_key("model")
    assert (model["model.cross_depth"].type, model["model.cross_depth"].default) == ("whole number ≥ 1", "3")
    assert model["model.hidden_dims"].default == "auto"
    assert model["model.hidden_dims"].type == "list of whole number ≥ 1 or auto"
    assert model["model.stochastic_depth"].meaning == "Probability that a row skips a cross layer in training."
    trainer = by_key("trainer")
    assert trainer["trainer.early_stopping.patience"].type.startswith("whole number")
    assert trainer["trainer.compile"].type == "auto or on or off"
    schema = by_key("schema")
    assert schema["schema.sequences.NAME.delimiter"].default == ","
    assert "schema.label" in schema, "the name in a config, not that in the code"
    assert "trainer.patience_trees" in by_key("trainer", "gbdt")
    assert "trainer.patience_trees" not in trainer


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0 and ≤ 1"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "names to whole number"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of a or b"),
        ({"$ref": "#/$defs/M", "$defs": {"M": {"type": "object", "properties": {}}}}, "section"),
        ({"type": "array", "prefixItems": [{}, {}]}, "list of 2 values"),
        ({}, "any value"),
    ],
)
def test_words_of_types(schema: dict[str, object], text: str) -> None:
    assert type_text(schema) == text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[!p]*.yaml")), ids=lambda path: path.stem)
def test_the_json_schema_accepts_the_configs(path: Path) -> None:
    jsonschema.validate(load_yaml(path), config_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"schema": {"lable": "x"}},
        {"trainer": {"epochs": 0}},
        {"models": {"dcnv2": {"trainr": {}}}},
        {"prepare": {"n_folds": 1}},
        {"oops": 1},
    ],
)
def test_the_json_schema_refuses_what_the_code_refuses(change: dict[str, object]) -> None:
    values = {"name": "mine", "schema": {"label": "clicked"}, "trainer": {"epochs": "auto"}}
    jsonschema.validate(values, config_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | change, config_schema())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(command, "begin", lambda module: None)  # the handlers of a process that only runs a command
    monkeypatch.setattr(sys, "argv", ["gatectr", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "config", "show", "--model", "gbdt", "--section", "model") == 0
    assert "model.num_leaves" in capsys.readouterr().out
    assert run(monkeypatch, "config", "show", "--json") == 0
    printed = capsys.readouterr()
    assert next(setting["key"] for setting in json.loads(printed.out)["features"]).startswith("features.")
    assert "model.cross_depth" in printed.err
    assert run(monkeypatch, "config", "show", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert run(monkeypatch, "config", "schema", "--out", "schemas/config.json") == 0
    assert json.loads(Path("schemas/config.json").read_text()) == config_schema()
    capsys.readouterr()
    assert run(monkeypatch, "config", "schema") == 0
    assert yaml.safe_load(capsys.readouterr().out)["title"] == "Config of GateCTR"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config", "shwo"), "unknown command 'config shwo'; did you mean 'config show'"),
        (("config",), "unknown command 'config'"),
        (("config", "show", "--model", "gbdtt"), "unknown model 'gbdtt'; did you mean 'gbdt'"),
        (("config", "show", "--section", "trainr"), "unknown section 'trainr'; did you mean 'trainer'"),
        (("rnak",), "unknown command 'rnak'; did you mean 'rank'"),
        (("prepare", "--jsn"), "No such option: --jsn"),
        (("rank", "--epochs", "3"), "trainer.epochs=3"),
    ],
)
def test_nearest_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err
