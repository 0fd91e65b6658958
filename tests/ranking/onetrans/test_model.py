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


def layers_of(model: OneTrans) -> list[tuple[Tensor, ...]]:
    """Collects the inputs of the layers at each call: feature tokens, events, slots, and which slots have events."""
    calls: list[tuple[Tensor, ...]] = []
    forward = model.layers
    model.layers = lambda *inputs: calls.append(inputs) or forward(*inputs)  # type: ignore[method-assign]
    return calls


@torch.no_grad()
def test_tokens_row_by_row(with_target: PreparedDataset) -> None:
    """Three of the features and one of the target; the last events of `seen` and the steps in turns, by recency."""
    model = build(with_target, max_events=3)
    batch = with_target.split("full").batch(np.arange(30), model.sequences)
    calls = layers_of(model)
    model(batch)
    ((features, events, slots, is_event, n_left),) = calls
    embedded = model.events(batch)
    target, steps = embedded["shop"].values(), batch.sequences["steps"]
    by_length = (embedded["seen"].lengths().clamp(max=3) + steps.lengths()).argsort()
    assert torch.allclose(features[:, 3], model.target_token(target)[by_length], atol=1e-6)
    flat = torch.cat([model.features(batch), target, batch.dense], dim=1)
    assert torch.allclose(features[:, :3].flatten(1), model.feature_tokens(flat)[by_length], atol=1e-6)
    seen, start = embedded["seen"].to_dense(), steps.lengths().cumsum(0) - steps.lengths()
    for position, row in enumerate(by_length.tolist()):
        own = {2 * k: event for k, event in enumerate(seen[row].flip(0)[:3])}
        for place in range(int(start[row]), int(start[row] + steps.lengths()[row])):
            step = steps.values()[place : place + 1].long()
            own[1 + 2 * int(step)] = model.steps["steps"](step, steps.weights()[place : place + 1])[0]
        assert slots[position][is_event[position]].tolist() == sorted(own)
        assert torch.allclose(events[position][is_event[position]], torch.stack([own[k] for k in sorted(own)]))
    assert n_left == [3, 0]
    tokens = model.event_tokens(events, slots)
    assert torch.allclose(
        tokens[0, 0], model.event_tokens.map.weight @ events[0, 0] + model.event_tokens.slot[slots[0, 0]]
    )


@pytest.mark.parametrize("n_layers", [1, 2, 4])
@torch.no_grad()
def test_leaving_out_empty_slots_changes_nothing(
    n_layers: int, with_target: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows by length, few at once, give the same logits as all slots of all rows at once."""
    model = build(with_target, max_events=4, n_layers=n_layers)
    batch = with_target.split("full").batch(np.arange(100), model.sequences)
    monkeypatch.setattr("ranking.onetrans.model._ROWS_AT_ONCE", 7)
    found = model(batch)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    calls = layers_of(model)
    expected = model(batch)
    assert len(calls) == 1
    assert calls[0][1].shape == (100, 7, 4)
    assert torch.allclose(found, expected, atol=1e-6)


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


@torch.no_grad()
def test_events_learn_of_the_target_in_the_first_layer(with_target: PreparedDataset) -> None:
    """Another target changes the states of events: attention goes both ways."""
    model = build(with_target)
    states: list[tuple[Tensor, Tensor]] = []
    model.blocks[0].register_forward_hook(lambda _, args, out: states.append((out[1], args[2][:, : out[1].shape[1]])))
    batch = with_target.split("full").batch(np.arange(10), model.sequences)
    model(batch)
    embedded = model.events(batch)
    shop = embedded["shop"]
    model.events.given = embedded | {"shop": type(shop)(shop.values() + 1, lengths=shop.lengths())}
    model(batch)
    (before, is_event), (after, _) = states
    assert is_event.sum() > 10
    assert ((after - before).abs().sum(2) > 1e-6)[is_event].all()


@torch.no_grad()
def test_the_place_of_an_event_matters_only_by_its_slot(with_target: PreparedDataset) -> None:
    """Without vectors of slots the order of events changes nothing; with them it does."""
    model = build(with_target, n_layers=1)  # with more layers the pyramid keeps the most recent events
    batch = with_target.split("full").batch(np.arange(40), model.sequences)
    whole = model(batch)
    embedded = model.events(batch)
    turned = [events.flip(0) for events in embedded["seen"].to_dense()]
    model.events.given = embedded | {"seen": type(embedded["seen"]).from_dense(turned)}
    assert not torch.allclose(model(batch), whole, atol=1e-4)
    model.event_tokens.slot.zero_()
    found = model(batch)
    model.events.given = None
    assert torch.allclose(model(batch), found, atol=1e-5)


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
