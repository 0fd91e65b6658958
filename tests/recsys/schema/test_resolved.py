import pytest

from recsys.errors import InputError
from recsys.schema.config import SchemaConfig
from recsys.schema.resolved import Schema, resolve_schema

COLUMNS = ["y", "id", "day", "b_10", "b_2", "c_1", "c_2", "seq", "h_1", "h_2"]


def resolve(**roles: object) -> Schema:
    return resolve_schema(SchemaConfig.model_validate({"label": "y"} | roles), COLUMNS)


def test_patterns_sort_naturally_and_ignore_the_files_order() -> None:
    schema = resolve(numeric=["b_*"], categorical=["c_*"])
    assert schema.numeric == ("b_2", "b_10")
    again = resolve_schema(SchemaConfig(label="y", numeric=("b_*",), categorical=("c_*",)), COLUMNS[::-1])
    assert again == schema


def test_a_name_has_priority_over_a_pattern() -> None:
    schema = resolve(numeric=["c_2"], categorical=["c_*"])
    assert schema.categorical == ("c_1",)
    assert schema.numeric == ("c_2",)


def test_patterns_exclude_label_id_and_day() -> None:
    assert set(resolve(categorical=["*"], id="id", day="day").categorical).isdisjoint({"y", "id", "day"})
    assert "day" in resolve(categorical=["day", "c_*"], day="day").categorical


def test_ignored_columns_match_no_pattern() -> None:
    assert resolve(categorical=["c_*"], ignore=["c_1"]).categorical == ("c_2",)


def test_group_of_columns_is_measured_once() -> None:
    schema = resolve(numeric=["h_1"], sequences={"h": {"kind": "columns", "columns": ["h_*"]}})
    assert schema.measured == ("h_1", "h_2")
    assert schema.column_sequences[0].columns == ("h_1", "h_2")


def test_sequences_share_a_vocabulary() -> None:
    schema = resolve(categorical=["c_1"], sequences={"s": {"kind": "list", "column": "seq", "vocabulary": "c_1"}})
    assert schema.vocabularies == {"c_1": ("c_1", "s")}


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"categorical": ["c_3"]}, r"schema.categorical: 'c_3' is not a column.*did you mean 'c_"),
        ({"numeric": ["z_*"]}, r"schema.numeric: 'z_\*' is not a column"),
        ({"categorical": ["c_*"], "numeric": ["c_*"]}, "'c_1' is both categorical and numeric"),
        ({"categorical": ["c_1"], "numeric": ["c_1"]}, "'c_1' is both categorical and numeric"),
        ({"categorical": ["c_1", "c_2"], "ignore": ["c_2"]}, "'c_2' is a feature and is ignored: remove one"),
        ({"categorical": ["y"]}, "'y' is the label"),
        ({"categorical": ["c_1"], "target_item": "c_2"}, "schema.target_item: 'c_2'"),
        ({"categorical": ["c_1"], "sequences": {"c_1": {"kind": "list", "column": "seq"}}}, "is also a categorical"),
        ({"sequences": {"s": {"kind": "list", "column": "seq", "vocabulary": "zz"}}}, "vocabulary: 'zz' is neither"),
        ({}, "no categorical, numeric, vector or sequence column"),
        ({"categorical": ["c_1"], "towers": {"user": ["c_2"]}}, "schema.towers.user: 'c_2'"),
    ],
)
def test_wrong_roles_are_named(roles: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(**roles)


def test_missing_label_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"no column 'yy'; did you mean 'y'\? \(it has b_2, .*a first line with the names"
    ):
        resolve_schema(SchemaConfig(label="yy", categorical=("c_1",)), COLUMNS)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sequences": {"s": {"kind": "delimited", "delimiter": "::"}}}, "delimiter must be one ASCII character"),
        ({"sequences": {"s": {"kind": "delimited", "delimiter": "é"}}}, "delimiter must be one ASCII character"),
        (
            {"segments": {"u": {"kind": "length", "sequence": "seq", "edges": [9, 2], "labels": ["a", "b", "c"]}}},
            "edges must increase and labels must have one more entry",
        ),
        (
            {"segments": {"u": {"kind": "length", "sequence": "seq", "edges": [9], "labels": ["a"]}}},
            "edges must increase and labels must have one more entry",
        ),
    ],
)
def test_wrong_settings_are_named(section: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SchemaConfig.model_validate({"label": "y"} | section)
