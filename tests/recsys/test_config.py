from pathlib import Path

import pytest

from recsys.config import load_yaml, merge, parse_overrides, validate
from recsys.errors import InputError
from recsys.schema.config import SchemaConfig
from recsys.training.config import TrainerConfig


def test_overrides_are_typed_and_nested() -> None:
    parsed = parse_overrides(["a.b=1e-3", "a.c=[1,2]", "a.d=null", "e=text"])
    assert parsed == {"a": {"b": 0.001, "c": [1, 2], "d": None}, "e": "text"}


def test_later_layers_override_and_lists_are_replaced() -> None:
    assert merge({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [3]}}, None) == {"a": {"x": 1, "y": [3]}}


@pytest.mark.parametrize("override", ["epochs", "=3"])
def test_override_needs_key_and_value(override: str) -> None:
    with pytest.raises(InputError, match="must be KEY=VALUE"):
        parse_overrides([override])


def test_misspelt_key_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"f.yaml: unknown key 'trainer.epoch'; did you mean 'epochs'"):
        validate(TrainerConfig, {"epoch": 3}, "f.yaml", "trainer.")


def test_misspelt_nested_key_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'early_stopping.patienc'; did you mean 'patience'"):
        validate(TrainerConfig, {"early_stopping": {"patienc": 3}}, "f.yaml")


def test_misspelt_key_of_a_union_is_written_as_the_user_wrote_it() -> None:
    values = {"label": "y", "sequences": {"s": {"kind": "delimited", "delimeter": ";"}}}
    with pytest.raises(InputError, match=r"'sequences.s.delimeter'; did you mean 'delimiter'"):
        validate(SchemaConfig, values, "f.yaml")


def test_wrong_value_shows_key_and_value() -> None:
    with pytest.raises(InputError, match=r"trainer.epochs: .*greater than or equal to 1, got 0"):
        validate(TrainerConfig, {"epochs": 0}, "f.yaml", "trainer.")


def test_missing_key_is_named() -> None:
    with pytest.raises(InputError, match="'label' is missing"):
        validate(SchemaConfig, {}, "f.yaml")


def test_unknown_metric_lists_the_known() -> None:
    with pytest.raises(InputError, match="'auc' is not a metric: choose from ap,"):
        validate(TrainerConfig, {"early_stopping": {"weights": {"auc": 1}}}, "f.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [1", "not a readable YAML"), ("- 1\n- 2", "must hold a mapping")])
def test_unreadable_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_yaml(path)


def test_missing_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        load_yaml(tmp_path / "none.yaml")


def test_config_overrides_its_base(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nschema: {x: 1, y: [1, 2]}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nschema: {y: [3]}\n")
    (tmp_path / "c.yaml").write_text("base: b.yaml\nname: c\n")
    assert load_yaml(tmp_path / "c.yaml") == {"name": "c", "schema": {"x": 1, "y": [3]}}


def test_a_config_that_is_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(InputError, match="is its own base"):
        load_yaml(tmp_path / "a.yaml")
    (tmp_path / "d.yaml").write_text("base: gone.yaml\n")
    with pytest.raises(InputError, match=r"gone.yaml is not a file"):
        load_yaml(tmp_path / "d.yaml")
