from typing import Any

import pytest

from recsys.config import validate
from recsys.errors import InputError
from recsys.schema.config import SchemaConfig
from recsys.schema.resolved import resolve_schema

SCHEMA: dict[str, Any] = {"label": "click", "split": "split", "categorical": ["item", "device"], "numeric": ["price"]}
COLUMNS = ["click", "split", "item", "device", "price", "image", "text"]


def config(**changes: Any) -> SchemaConfig:
    return validate(SchemaConfig, SCHEMA | {"vectors": {"image": {"size": 2}}} | changes, "c.yaml", "schema.")


def test_a_vector_becomes_the_last_numeric_columns() -> None:
    schema = resolve_schema(config(vectors={"text": {"size": 1}, "image": {"size": 2}}), COLUMNS)
    assert schema.numeric == ("price", "text_0", "image_0", "image_1")
    assert schema.numbers == ("price",)
    assert set(schema.source_columns) == {"item", "device", "price", "text", "image"}
    assert schema.vectors[1].columns == ("image_0", "image_1")


def test_a_pattern_of_numbers_leaves_out_vectors() -> None:
    columns = ["click", "split", "item", "device", "price", "image"]
    assert resolve_schema(config(numeric=["*"]), columns).numeric == ("price", "image_0", "image_1")


def test_a_tower_names_the_vector() -> None:
    schema = resolve_schema(config(towers={"item": ["item", "image"]}), COLUMNS)
    assert schema.towers["item"] == ("item", "image")


def test_schemas_without_vectors_are_written_as_before() -> None:
    assert "vectors" not in SchemaConfig().model_dump()
    assert "vectors" not in resolve_schema(config(vectors=[]), COLUMNS).model_dump()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": ["imag"]}, "schema.vectors: 'imag' is not a column of the data; did you mean 'image'"),
        ({"vectors": ["image"]}, "schema.vectors.image: its size is not known: set size"),
        (
            {"vectors": {"image": {"sise": 2}}},
            "vectors.image.sise'; did you mean 'schema.vectors.image.size'",
        ),
        ({"vectors": {"image": {"size": 0}}}, "schema.vectors.image.size: Input should be greater than or equal to 1"),
        ({"numeric": ["image"]}, "schema.vectors: 'image' is also numeric: remove one of the roles"),
        ({"categorical": ["image"]}, "schema.vectors: 'image' is also categorical: remove one of the roles"),
        ({"sequences": {"image": {"kind": "list"}}}, "schema.vectors: 'image' is also a sequence: remove one"),
        ({"vectors": {"click": {"size": 2}}}, "schema.vectors: 'click' is not a column of the data"),
    ],
)
def test_wrong_vectors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_schema(config(**changes), COLUMNS)


def test_the_name_of_a_component_is_that_of_another_column() -> None:
    with pytest.raises(InputError, match="components are named 'image_0' to 'image_1', and the data already has 'imag"):
        resolve_schema(config(), [*COLUMNS, "image_1"])
    with pytest.raises(InputError, match="the data already has 'image_0': rename the vector column"):
        resolve_schema(config(derived={"image_0": "price / price"}), COLUMNS)
    with pytest.raises(InputError, match="the data already has 'image_0': rename the vector column"):
        resolve_schema(config(vectors={"image": {"size": 1}, "image_0": {"size": 1}}), [*COLUMNS, "image_0"])
