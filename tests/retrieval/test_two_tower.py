"""The towers: features, outputs, and refused schemas."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from retrieval.catalog import item_batch
from retrieval.tower_features import tower_features
from retrieval.two_tower import TwoTower, TwoTowerConfig
from tests.helpers.small import prepare_small, small_schema
from tests.helpers.towers import tower_schema, tower_table, towers


def test_features_by_tower(shops: PreparedDataset) -> None:
    schema = shops.split("holdout").schema
    user, item = tower_features(schema, ("user", "context")), tower_features(schema, ("item",))
    assert user.categorical == ("color",)
    assert user.tokens == ("seen",)
    assert [schema.dense[place] for place in user.dense] == ["x_1", "x_2"]
    assert item.categorical == ("shop", "brand")
    assert item.tokens == item.dense == ()


@pytest.mark.parametrize("pooling", ["mean", "attention", "last"])
def test_logits_are_scaled_cosines(shops: PreparedDataset, pooling: str) -> None:
    model = towers(shops, pooling=pooling)
    batch = shops.split("holdout").batch(np.arange(50), model.sequences)
    user, item = model.user_vectors(batch, 50), model.item_vectors(batch)
    assert user.shape == item.shape == (50, 7)
    torch.testing.assert_close(user[:, :6].norm(dim=1), torch.ones(50))
    torch.testing.assert_close(item[:, :6].norm(dim=1), torch.ones(50))
    cosine = torch.nn.functional.cosine_similarity(user[:, :6], item[:, :6])
    torch.testing.assert_close(model(batch), cosine / 0.05)


def test_the_prior_adds_the_log_of_popularity(shops: PreparedDataset) -> None:
    model = towers(shops)
    batch = shops.split("holdout").batch(np.arange(20), model.sequences)
    plain = model(batch)
    share = torch.rand(len(model.prior)) + 0.1
    model.set_popularity(share)
    ids = batch.sparse["shop"].values().long()
    torch.testing.assert_close(model(batch), plain + share[ids].log())
    user, item = model.user_vectors(batch, 20), model.item_vectors(batch)
    torch.testing.assert_close(model.scale * (user * item).sum(dim=1), model(batch))  # includes the prior


def test_without_a_prior_popularity_has_no_effect(shops: PreparedDataset) -> None:
    model = towers(shops, popularity_prior=False)
    batch = shops.split("holdout").batch(np.arange(20), model.sequences)
    plain = model(batch)
    model.set_popularity(torch.rand(len(model.prior)))
    assert torch.equal(model(batch), plain)


def test_the_temperature_is_learned(shops: PreparedDataset) -> None:
    model = towers(shops, temperature=0.1)
    assert float(model.scale) == pytest.approx(10)
    model(shops.split("holdout").batch(np.arange(20), model.sequences)).sum().backward()
    assert model.log_scale.grad is not None
    assert float(model.log_scale.grad) != 0
    with torch.no_grad():
        model.log_scale.fill_(math.log(1e6))
    assert float(model.scale) == pytest.approx(100)


def test_inner_products_of_embeddings(film_log: PreparedDataset) -> None:
    """With similarity=dot and equal widths, an item's vector is its embedding, and the logit is an inner product."""
    plain = {"pooling": "ligr", "similarity": "dot", "popularity_prior": False, "output_dim": 4}
    model, split = towers(film_log, user_hidden_dims=(), item_hidden_dims=(), **plain), film_log.split("full")
    batch = split.batch(np.arange(6), model.sequences)
    user, item = model.user_vectors(batch, 6), model.item_vectors(batch)
    assert model.events is not None
    torch.testing.assert_close(item[:, :-1], model.events(batch)["film"].values())
    assert item[:, -1].abs().max() == 0
    torch.testing.assert_close(model(batch), (user[:, :-1] * item[:, :-1]).sum(dim=1))
    assert not model.log_scale.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"similarity": "dot", "temperature": 0.1}, "'temperature' has no effect on similarity=dot"),
        ({"pooling": "hstu", "sequential": {"ffn_factor": 2}}, "'sequential.ffn_factor' has no effect on pooling=hstu"),
    ],
)
def test_settings_without_an_effect_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoTowerConfig.model_validate(changes)


def test_item_vectors_do_not_depend_on_the_request(shops: PreparedDataset) -> None:
    model, split = towers(shops), shops.split("holdout")
    rows = np.arange(30, 40)
    alone = item_batch(split, rows, model.sequences, model.item_sequences)
    torch.testing.assert_close(model.item_vectors(alone), model.item_vectors(split.batch(rows, model.sequences)))
    assert bool(alone.label.isnan().all())
    assert (alone.n_rows, len(alone)) == (0, 10)
    assert alone.sparse["color"].values().numel() == alone.sequences["seen"].values().numel() == 0


def test_user_vectors_do_not_depend_on_appended_items(shops: PreparedDataset) -> None:
    model, split = towers(shops, pooling="attention"), shops.split("holdout")
    batch = split.batch(np.arange(10), model.sequences)
    longer = batch.append_items(item_batch(split, np.arange(50, 55), model.sequences, model.item_sequences))
    torch.testing.assert_close(model.user_vectors(longer, 10), model.user_vectors(batch, 10))
    torch.testing.assert_close(model.item_vectors(longer)[:10], model.item_vectors(batch))


def test_causal_step_depends_only_on_earlier_events(film_log: PreparedDataset) -> None:
    model, split = towers(film_log, pooling="causal", user_hidden_dims=(), item_hidden_dims=()), film_log.split("full")
    rows = np.arange(40)
    batch = split.batch(rows, model.sequences)
    steps, row = model.step_vectors(batch, 40)
    lengths = batch.sequences["watched"].lengths()
    assert row.bincount().tolist() == (lengths + 1).tolist()
    last = (lengths.long() + 1).cumsum(0) - 1
    torch.testing.assert_close(steps[last], model.user_vectors(batch, 40))
    # A change of the last event changes only the last step.
    changed = split.batch(rows, model.sequences)
    ends = lengths.long().cumsum(0)[lengths > 0] - 1
    changed.sequences.values()[ends] = 2 + (changed.sequences.values()[ends] - 1) % 12
    others, _ = model.step_vectors(changed, 40)
    is_last = torch.zeros(len(steps), dtype=torch.bool)
    is_last[last] = True
    torch.testing.assert_close(others[~is_last], steps[~is_last])
    assert bool((others[last][lengths > 0] - steps[last][lengths > 0]).abs().amax(dim=1).min() > 1e-5)


def test_history_and_target_share_one_table(film_log: PreparedDataset) -> None:
    model = towers(film_log, pooling="causal")
    assert model.shared_item == ("film",)
    tables = [name for name, _ in model.named_parameters() if "embeddings" in name]
    assert len(tables) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_item": None}, "retrieval needs schema.target_item"),
        ({"towers": {"user": ("color",), "item": ("brand",)}}, "'shop', the target item, in schema.towers.item"),
        ({"towers": {"user": (), "item": ("shop",)}}, "features of the user in schema.towers.user"),
    ],
)
def test_incomplete_tower_schemas_are_refused(shops: PreparedDataset, changes: dict[str, object], message: str) -> None:
    schema = shops.split("holdout").schema.model_copy(update=changes)
    with pytest.raises(InputError, match=message):
        TwoTower(TwoTowerConfig(), schema)


def test_causal_needs_a_sequence_of_target_items(shops: PreparedDataset) -> None:
    with pytest.raises(InputError, match="one sequence of towers.user that shares the table of 'shop', got none"):
        TwoTower(TwoTowerConfig(pooling="causal"), shops.split("holdout").schema)


def test_columns_of_any_name_keep_their_missing_indicator(tmp_path: Path) -> None:
    """`a+b` is one column with one indicator, and `isnull(x_1)` is a raw column."""
    table, null = tower_table(), np.random.default_rng(1).random(3000) < 0.1
    columns = {"a+b": pa.array(np.ones(3000), mask=null), "isnull(x_1)": pa.array(np.ones(3000), mask=~null)}
    for name, values in columns.items():
        table = table.append_column(name, values)
    towers_of = {"user": ["color", "seen", "a+b"], "item": ["shop", "isnull(x_1)"]}
    schema = small_schema(**tower_schema(numeric=["a+b", "isnull(x_1)"], towers=towers_of))
    resolved = prepare_small(table, tmp_path / "raw", tmp_path / "prepared", schema).split("full").schema
    assert resolved.dense == ("a+b", "isnull(x_1)", "isnull(a+b)", "isnull(isnull(x_1))")
    assert tower_features(resolved, ("user", "context")).dense == (0, 2)
    assert tower_features(resolved, ("item",)).dense == (1, 3)
