"""Vectors in the item tower: items that no training row has are found by their vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.retrieval import retrieval
from recsys.schema.config import SchemaConfig
from retrieval.catalog import item_batch
from retrieval.tower_features import tower_features
from tests.helpers.towers import towers
from tests.helpers.vector_data import SIZE, prepare_vectors, prepared_vectors, taste_table, vector_schema

WITH, WITHOUT = ["item", "image"], ["item"]
COLD = ["model.popularity_prior=false"]
"""Items without training rows are not ranked last for being new."""
FAST = ["trainer.epochs=6", "trainer.batch_size=100", "trainer.learning_rate=0.005", "model.embedding_dim=8"]


def schema(item: list[str], **changes: Any) -> SchemaConfig:
    roles = {"label": None, "numeric": [], "categorical": ["group", "item"], "sequences": {}}
    vectors = ["image"] if "image" in item else []
    return vector_schema(**roles, vectors=vectors, towers={"user": ["group"], "item": item}, **changes)


@pytest.mark.parametrize("tower", ["user", "item"])
def test_a_tower_reads_its_vectors_projected(tower: str, tmp_path: Path) -> None:
    features = {"user": ["group"], "item": ["item"]}
    config = schema(WITH).model_copy(update={"towers": features | {tower: [*features[tower], "image"]}})
    dataset = prepared_vectors(taste_table(200), tmp_path, config)
    split, model = dataset.split("full"), towers(dataset)
    of_tower = tower_features(split.schema, (tower,))
    assert of_tower.vectors == ("image",)
    assert of_tower.width == 0
    dense = model.item_dense if tower == "item" else model.request_dense
    assert dense.width == 4  # the width of embeddings
    batch = split.batch(np.arange(5), ())
    layer = dense.vectors.maps["image"]
    expected = batch.dense[:, :SIZE] @ layer.weight.T + layer.bias
    torch.testing.assert_close(dense(batch, 5), expected)
    changed = split.batch(np.arange(5), ())
    changed.dense = changed.dense + 1
    is_item_same = torch.equal(model.item_vectors(batch), model.item_vectors(changed))
    is_user_same = torch.equal(model.user_vectors(batch, 5), model.user_vectors(changed, 5))
    assert (is_user_same, is_item_same) == ((False, True) if tower == "user" else (True, False))


def test_a_tower_without_vectors_has_no_projection(tmp_path: Path) -> None:
    dataset = prepared_vectors(taste_table(200), tmp_path, schema(WITHOUT))
    model = towers(dataset)
    assert not [name for name in model.state_dict() if "vectors" in name]
    assert (model.item_dense.width, model.request_dense.width) == (0, 0)


def test_a_missing_vector_has_its_indicator_in_the_tower(tmp_path: Path) -> None:
    table = taste_table(200)
    image = [None if row % 5 == 3 else vector for row, vector in enumerate(table["image"].to_pylist())]
    table = table.set_column(2, "image", [image])
    split = prepared_vectors(table, tmp_path, schema(WITH)).split("full")
    of_item = tower_features(split.schema, ("item",))
    assert [split.schema.dense[column] for column in of_item.dense] == [f"isnull(image_0+{SIZE - 1})"]
    batch = item_batch(split, np.array([2, 3]), (), ())
    np.testing.assert_array_equal(batch.dense[:, of_item.dense[0]], [0, 1])


def recalls(item: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """Recall@10 of known and of new items, by ranking."""
    prepared = prepare_vectors(taste_table(), folder, schema(item))
    retrieval(data=prepared, config=folder / "config.yaml", out=folder / "run", overrides=[*COLD, *FAST])
    segments = json.loads((folder / "run/metrics.json").read_text())["segments"]["known or new item"]
    names = ("two_tower", "popularity", "random")
    return {part: {name: figures[name]["recall@10"] for name in names} for part, figures in segments.items()}


def test_items_without_training_rows_are_found_by_their_vectors(tmp_path: Path) -> None:
    """A third of the test rows' items are hidden from training; there are 1,000 items, so chance finds a hundredth."""
    ours, others = recalls(WITH, tmp_path / "with"), recalls(WITHOUT, tmp_path / "without")
    cold = ours["new"]
    assert cold["two_tower"] > 0.1
    assert max(cold["popularity"], cold["random"], others["new"]["two_tower"]) < 0.03
    assert ours["known"]["two_tower"] > ours["known"]["popularity"] + 0.1
