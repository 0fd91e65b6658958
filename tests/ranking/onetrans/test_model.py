import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ranking.models import build_model
from ranking.onetrans.model import OneTrans, OneTransConfig
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from tests.helpers.sharded import with_tables


def build(dataset: PreparedDataset, **settings: object) -> OneTrans:
    torch.manual_seed(0)
    small = {"embedding_dim": 4, "embedding_init_std": 0.5, "d_model": 8, "n_heads": 2, "n_feature_tokens": 3}
    config = OneTransConfig.model_validate(small | {"linear_part": False} | settings)
    return with_tables(OneTrans(config, dataset.split("full").schema)).eval()


def tokens_of(model: OneTrans, inputs: list[Tensor]) -> None:
    """Collects the tokens that enter each block, and which of them are present."""
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, out: inputs.extend([*args, out]))


def test_tokens_row_by_row(with_target: PreparedDataset) -> None:
    """Three of the features, one of the target, the last events of `seen` and the steps in turns, by recency."""
    model = build(with_target, max_events=3)
    split, inputs = with_target.split("full"), []
    tokens_of(model, inputs)
    batch = split.batch(np.arange(30), model.sequences)
    with torch.no_grad():
        model(batch)
        x_BPD, is_present, first, second_x, _, second = inputs
        seen = model.events(batch)["seen"].to_dense()
        target = model.events(batch)["shop"].values()
        assert torch.allclose(x_BPD[:, 3], model.target_token(target), atol=1e-6)
        flat = torch.cat([model.features(batch), target, batch.dense], dim=1)
        assert torch.allclose(x_BPD[:, :3].flatten(1), model.feature_tokens(flat), atol=1e-6)
        assert is_present[:, :4].all()
        layer = model.event_tokens["seen"]
        for row, events in enumerate(seen):
            slots = [4, 6, 8]  # each is followed by a step
            assert is_present[row, slots].tolist() == [k < len(events) for k in range(3)]
            for k, event in enumerate(events.flip(0)[:3]):
                assert torch.allclose(x_BPD[row, slots[k]], layer.map(event) + layer.slot[k], atol=1e-6)
        steps = batch.sequences["steps"]
        assert is_present[:, [5, 7, 9]].sum(1).tolist() == steps.lengths().tolist()
    assert x_BPD.shape == (30, 4 + 6, 8)
    assert torch.equal(second_x, first)
    assert first.shape == (30, 4 + 3, 8)
    assert second.shape == (30, 4, 8)


def test_older_events_change_nothing_but_the_long_pooling(with_target: PreparedDataset) -> None:
    """With the last two events alone in the batch, attention gives the same logits, SDIM others."""
    split = with_target.split("full")
    rows = np.arange(60)
    for settings, is_equal in ({"long_pooling": "none"}, True), ({"long_pooling": "sdim", "n_hashes": 6}, False):
        model = build(with_target, max_events=2, **settings)
        batch = split.batch(rows, model.sequences)
        with torch.no_grad():
            expected = model(batch)
            embedded = model.events(batch)
            seen = embedded["seen"].to_dense()
            model.events.given = embedded | {"seen": type(embedded["seen"]).from_dense([x[-2:] for x in seen])}
            found = model(batch)
        is_short = torch.tensor([len(x) <= 2 for x in seen])
        assert torch.allclose(found[is_short], expected[is_short], atol=1e-6)
        assert torch.allclose(found, expected, atol=1e-6) == is_equal


def test_events_learn_of_the_target_in_the_first_layer(with_target: PreparedDataset) -> None:
    """Another target changes the states of events: attention goes both ways."""
    model, inputs = build(with_target), []
    tokens_of(model, inputs)
    batch = with_target.split("full").batch(np.arange(10), model.sequences)
    with torch.no_grad():
        model(batch)
        before, embedded = inputs[2], model.events(batch)
        shop = embedded["shop"]
        model.events.given = embedded | {"shop": type(shop)(shop.values() + 1, lengths=shop.lengths())}
        inputs.clear()
        model(batch)
    is_present = inputs[1][:, 4 : before.shape[1]]
    changed = (inputs[2] - before)[:, 4:].abs().sum(2) > 1e-6
    assert changed[is_present].all()


def test_checkpointing_changes_no_gradient(with_target: PreparedDataset) -> None:
    gradients = []
    for is_on in (False, True):
        model = build(with_target, gradient_checkpointing=is_on, dropout=0.0).train()
        model(with_target.split("full").batch(np.arange(50), model.sequences)).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(*gradients, strict=True))


def test_settings_are_checked(small: PreparedDataset, with_target: PreparedDataset) -> None:
    with pytest.raises(ValidationError, match="n_heads must divide d_model, got 3 and 32"):
        OneTransConfig(n_heads=3)
    with pytest.raises(ValidationError, match="hash_width must divide n_hashes, got 5 and 48"):
        OneTransConfig(hash_width=5)
    with pytest.raises(ValidationError, match="behaviours is empty, and onetrans attends to behaviours"):
        OneTransConfig(behaviours=())
    with pytest.raises(InputError, match=r"onetrans needs schema.target_item \(the column of the candidate item\)"):
        build_model(OneTransConfig(), small.split("full").schema)
    with pytest.raises(InputError, match="model.behaviours: 'sean' is not a sequence"):
        build(with_target, behaviours=("sean",))
    with pytest.raises(InputError, match="model.target_with: 'shop' must be a categorical feature other than 'shop'"):
        build(with_target, target_with=("shop",))
