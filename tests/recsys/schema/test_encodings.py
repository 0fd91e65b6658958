"""Encodings from counts: names, patterns and products of columns."""

import pytest
from pydantic import ValidationError

from recsys.errors import InputError
from recsys.schema.config import SchemaConfig
from recsys.schema.encodings import products_of, resolve_encodings
from recsys.schema.features import TokenFeature

CATEGORICAL = ("ad", "site", "l_1", "l_2")


def test_names_patterns_and_products() -> None:
    config = {"l_*": ("count",), "ad*site": ("ctr", "ctr"), "ad * l_1": ("ctr",), "l_2": ("ctr", "count")}
    products = products_of(config, CATEGORICAL)
    assert products == {"ad*site": ("ad", "site"), "ad * l_1": ("ad", "l_1")}
    assert resolve_encodings(config, CATEGORICAL, products) == {
        "l_1": ("count",),
        "l_2": ("ctr", "count"),
        "ad*site": ("ctr",),
        "ad * l_1": ("ctr",),
    }


def test_a_column_whose_name_has_a_star_is_no_product() -> None:
    assert products_of({"ad*site": ("ctr",)}, ("ad", "site", "ad*site")) == {}


def test_unknown_names() -> None:
    for key in ("adds", "x_*", "ad*stie"):
        with pytest.raises(InputError, match="schema.encodings"):
            resolve_encodings({key: ("ctr",)}, CATEGORICAL, ())


def test_encodings_of_earlier_rows_need_an_order() -> None:
    with pytest.raises(ValidationError, match=r"past_ctr of 'ad' counts earlier rows: name .* schema.encodings_past"):
        SchemaConfig.model_validate({"encodings": {"site": ["ctr"], "ad": ["count", "past_ctr"]}})
    for encodings in ({}, {"ad": ["ctr"]}):
        with pytest.raises(ValidationError, match="encodings_past is set, but no encoding is past_count or past_ctr"):
            SchemaConfig.model_validate({"encodings": encodings, "encodings_past": {"order": "at"}})


def sequence(name: str) -> TokenFeature:
    return TokenFeature(name=name, column=name, delimiter=",", max_length=5, keep="last", vocabulary=name)


def test_a_token_sequence_is_named_in_full() -> None:
    sequences = [sequence("seen"), sequence("list")]
    found = resolve_encodings({"list": ("ctr", "ctr"), "l_*": ("count",)}, CATEGORICAL, (), sequences)
    assert found == {"l_1": ("count",), "l_2": ("count",), "list": ("ctr",)}
    with pytest.raises(InputError, match=r"schema.encodings: 'se\*' is not a column"):
        resolve_encodings({"se*": ("ctr",)}, CATEGORICAL, (), sequences)


def test_a_sequence_of_numbers_has_no_values_to_count() -> None:
    with pytest.raises(InputError, match="schema.encodings: 'steps' is a sequence of numbers.*name a categorical"):
        resolve_encodings({"steps": ("ctr",)}, CATEGORICAL, (), (), ["steps"])


def test_tokens_have_no_encodings_of_earlier_rows() -> None:
    schema = {
        "sequences": {"seen": {"kind": "delimited"}},
        "encodings": {"seen": ["past_ctr"]},
        "encodings_past": {"order": "at"},
    }
    with pytest.raises(ValidationError, match=r"past_ctr of the sequence 'seen' is not computed.*\{seen: \[ctr\]\}"):
        SchemaConfig.model_validate(schema)
