"""Encodings from counts: names, patterns and products of columns."""

import pytest
from pydantic import ValidationError

from recsys.errors import InputError
from recsys.schema.config import SchemaConfig
from recsys.schema.encodings import products_of, resolve_encodings

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
