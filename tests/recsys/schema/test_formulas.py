import numpy as np
import pytest

from recsys.errors import InputError
from recsys.schema.formulas import parse_formulas
from recsys.schema.resolved import resolve_schema
from tests.helpers.small import small_schema

NUMERIC = ("clicks", "views", "hour", "a-b c")


def test_a_ratio_by_hand() -> None:
    (ratio,) = parse_formulas({"rate": " clicks/ views "}, NUMERIC).values()
    assert (ratio.kind, ratio.columns) == ("ratio", ("clicks", "views"))
    found = ratio(np.array([1.0, 3.0, 0.0, np.nan, 2.0]), np.array([4.0, 0.0, 0.0, 1.0, np.nan]))
    assert found[0] == 0.25
    assert np.isnan(found[1:]).all()


def test_a_cycle_by_hand() -> None:
    formulas = parse_formulas({"time": "cyclic( hour ,24)"}, NUMERIC)
    assert list(formulas) == ["time_sin", "time_cos"]
    hours = np.array([0.0, 6.0, 12.0, 18.0, 24.0, 27.0, -6.0, np.nan])
    half = 0.5**0.5
    expected = {"time_sin": [0, 1, 0, -1, 0, half, -1, np.nan], "time_cos": [1, 0, -1, 0, 1, half, 0, np.nan]}
    for name, formula in formulas.items():
        assert formula.columns == ("hour",)
        assert formula(hours) == pytest.approx(expected[name], abs=1e-12, nan_ok=True)


def test_columns_may_have_spaces_and_periods_fractions() -> None:
    formulas = parse_formulas({"r": "a-b c / hour", "c": "cyclic(a-b c, 0.5)"}, NUMERIC)
    assert formulas["r"].columns == ("a-b c", "hour")
    assert formulas["c_sin"].period == 0.5


@pytest.mark.parametrize(
    "text",
    ["clicks", "clicks / views / hour", "clicks * views", "log(clicks)", "cyclic(hour)", "cyclic(hour, -24)",
     "cyclic(hour, x)", "/ views", "clicks /", "(clicks) / views", "", "__import__('os') / views"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match='schema.derived.x: .* is not a formula: write "a / b" or "cyclic\\(hour, 24'):
        parse_formulas({"x": text}, NUMERIC)


def test_unknown_columns_and_empty_cycles_are_refused() -> None:
    with pytest.raises(InputError, match="schema.derived.x: the data has no column 'view'.*views"):
        parse_formulas({"x": "clicks / view"}, NUMERIC)
    with pytest.raises(InputError, match="cycle of length 0"):
        parse_formulas({"x": "cyclic(hour, 0)"}, NUMERIC)


def test_derived_numbers_are_numeric_features_that_no_file_has() -> None:
    columns = ["id", "day", "color", "shop", "x_1", "x_2", "seen", "click", "taken"]
    schema = resolve_schema(small_schema(derived={"r": "x_1/x_2", "c": "cyclic(x_2, 24)"}), columns)
    assert schema.numeric == ("x_1", "x_2", "r", "c_sin", "c_cos")
    assert schema.derived_numeric == ("r", "c_sin", "c_cos")
    assert not {"r", "c_sin", "c_cos"} & set(schema.source_columns)
    assert set(schema.numbers) == {"x_1", "x_2"}
    assert "formulas" not in resolve_schema(small_schema(), columns).model_dump()
    only_source = resolve_schema(small_schema(numeric=["x_1"], derived={"r": "x_1 / shop"}), columns)
    assert set(only_source.measured) >= {"x_1", "r"}
    assert "shop" in only_source.numbers
    assert "shop" in only_source.categorical
    with pytest.raises(InputError, match="has no column 'click'"):
        resolve_schema(small_schema(derived={"r": "click / x_2"}), columns)
    with pytest.raises(InputError, match="already has a column 'taken'"):
        resolve_schema(small_schema(derived={"taken": "x_1/x_2"}), columns)
