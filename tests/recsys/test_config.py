from pathlib import Path

import pytest

from recsys.config import load_yaml, merge, parse_overrides, validate
from recsys.errors import InputError
from recsys.schema.config import LeaveLastOut, SchemaConfig
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
    with pytest.raises(InputError, match=r"f.yaml: unknown key 'trainer.epoch'; did you mean 'trainer.epochs'"):
        validate(TrainerConfig, {"epoch": 3}, "f.yaml", "trainer.")


def test_misspelt_nested_key_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'early_stopping.patienc'; did you mean 'early_stopping.patience'"):
        validate(TrainerConfig, {"early_stopping": {"patienc": 3}}, "f.yaml")


def test_misspelt_key_of_a_union_is_written_as_the_user_wrote_it() -> None:
    values = {"label": "y", "sequences": {"s": {"kind": "delimited", "delimeter": ";"}}}
    with pytest.raises(InputError, match=r"'sequences.s.delimeter'; did you mean 'sequences.s.delimiter'"):
        validate(SchemaConfig, values, "f.yaml")


def test_wrong_value_shows_key_and_value() -> None:
    with pytest.raises(InputError, match=r"trainer.epochs: .*greater than or equal to 1, got 0"):
        validate(TrainerConfig, {"epochs": 0}, "f.yaml", "trainer.")


def test_missing_key_is_named() -> None:
    with pytest.raises(InputError, match="'order' is missing"):
        validate(LeaveLastOut, {"key": "user"}, "f.yaml")


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name: a\nschema:\n\tlabel: y\n", "line 3, column 1: .*write spaces instead of the tab"),
        (b"name: a\nschema: {}\nname: b\n", "line 3, column 1: found duplicate key.*that starts in line 1"),
        (b"name: a\nlist: [1,\n  2\nother: 3\n", "line 4, column 6: .*flow sequence that starts in line 2"),
        (b'name: "abc\nx: 1\n', "line 3, column 1: .*quoted scalar that starts in line 1"),
        (b"name: a\nother: *x\n", "line 2, column 8: found undefined alias"),
        (b"x: 1\nname: a\x07b\n", r"line 2: the character '\\x07' is not allowed"),
        (b"name: " + b"[" * 400 + b"]" * 400, "nested too deeply|maximum nesting"),
        ("name: a\nx: 한국\n".encode("cp949"), "c.yaml is not UTF-8 text, from line 2 on: save it as UTF-8"),
        ("name: ü\n".encode("latin-1"), "is not UTF-8 text, from line 1 on"),
        ("name: a\n".encode("utf-16"), "is not UTF-8 text, from line 1 on"),
        (b"a: {b: '${nope}'}\n", r"Interpolation key 'nope' not found \(key a.b\)"),
    ],
)
def test_yaml_errors_say_where_and_why(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message) as caught:
        load_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: pass the path of a YAML config"):
        load_yaml(tmp_path)
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfname: a\n")
    assert load_yaml(tmp_path / "c.yaml") == {"name": "a"}


@pytest.mark.parametrize("override", ["a=[", "a=${b}", "[=1", "a='", "a=\ud800"])
def test_unreadable_override(override: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_overrides([override])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"label": 5}, "schema.label: Input should be a valid string or a mapping of keys to values, got 5"),
        ({"label": ["a"]}, "schema.label: Input should be a valid string or a mapping of keys to values, got"),
        (
            {"label": {"column": "a", "value": [2]}},
            "'schema.label.value'; did you mean 'schema.label.values'",
        ),
        ({"label": {"column": "a", "values": 2}}, "schema.label.values: Input should be a list, got 2"),
        ({"label": {}}, "'schema.label.column' is missing"),
        ({"label": {"str": 1}}, "'schema.label.column' is missing"),
        ({"lable": "a"}, "unknown key 'schema.lable'; did you mean 'schema.label'"),
        ({"label": "a", "split": 3}, "schema.split: Input should be a valid string or a mapping"),
        (
            {"label": "a", "split": {"column": "t", "test_frm": 5}},
            "test_frm'; did you mean 'schema.split.test_from'",
        ),
        ({"label": "a", "split": {"column": "t", "test_from": [1]}}, "schema.split.test_from: .*number or a valid st"),
        ({"label": "a", "split": {"key": "u", "order": "t", "min_rows": 1}}, "schema.split.min_rows: .*equal to 3"),
        ({"label": "a", "split": {"key": "u", "ordr": "t"}}, "'schema.split.ordr'; did you mean 'schema.split.order'"),
        ({"label": "a", "sequences": {"s": {"kind": "lst"}}}, "schema.sequences.s.kind must be one of 'delimited', "),
        ({"label": "a", "sequences": {"s": {"kin": "list"}}}, "schema.sequences.s: the key 'kind' is missing"),
        ({"label": "a", "sequences": {"s": "list"}}, "schema.sequences.s: Input should be a mapping of keys"),
        ({"label": "a", "sequences": {"kind": {"kind": "list", "max_length": 0}}}, "schema.sequences.kind.max_length"),
        ({"label": "a", "segments": {"s": {"kind": "value", "colum": "a"}}}, "'schema.segments.s.colum'; did you mean"),
        ({"label": "a", "towers": {"usr": ["a"]}}, "schema.towers.usr: Input should be 'user', 'item' or 'context'"),
    ],
    ids=str,
)
def test_errors_of_unions_are_about_the_member_that_was_meant(schema: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(SchemaConfig, schema, "f.yaml", "schema.")


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ("x", "f.yaml: trainer: Input should be a mapping"),
        ({"loss": {"pos_weight": -1}}, "trainer.loss.pos_weight: Input should be greater than 0, got -1"),
        ({"loss": {"pos_weight": [1]}}, r"trainer.loss.pos_weight: .*valid number or 'auto', got \[1\]"),
        ({"loss": "focal"}, "trainer.loss: Input should be a mapping of keys to values, got 'focal'"),
        ({"embeddings": {"tables": {"*": {"optimzer": "adam"}}}}, r"'trainer.embeddings.tables.\*.optimzer'; did you"),
        ({"learning_rate": float("inf")}, "trainer.learning_rate: Input should be a finite number"),
        ({"seed": 10**30}, "trainer.seed: .*less than or equal"),
    ],
    ids=str,
)
def test_errors_of_nested_settings(trainer: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(TrainerConfig, trainer, "f.yaml", "trainer.")


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InputError) as caught:
        validate(SchemaConfig, {"label": "a", "categorical": "x" * 10_000}, "f.yaml")
    assert len(str(caught.value)) < 300
