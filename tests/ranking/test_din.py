import numpy as np
import pytest
import torch

from ranking.din import DIN, AttentionUnit, DINConfig, NumericSteps
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.nn.dice import Dice
from recsys.nn.jagged import EventRows
from tests.helpers.din import forward
from tests.helpers.sharded import with_tables


def test_attention_weights_by_numpy() -> None:
    """The MLP of the four concatenated vectors, one behavior at a time."""
    torch.manual_seed(0)
    unit = AttentionUnit(3, (5, 4), "relu")
    behaviour, target, row = torch.randn(6, 3), torch.randn(2, 3), torch.tensor([0, 0, 1, 1, 1, 1])
    found = unit(behaviour, target, EventRows(torch.tensor([2, 4]), 6, 5)).detach().numpy()
    w = {name: value.detach().numpy() for name, value in unit.named_parameters()}
    for k in range(6):
        h, t = behaviour[k].numpy(), target[row[k]].numpy()
        x = np.concatenate([h, t, h - t, h * t])
        x = np.maximum(w["first.weight"] @ x + w["first.bias"], 0)
        x = np.maximum(w["rest.layers.0.0.weight"] @ x + w["rest.layers.0.0.bias"], 0)
        assert found[k, 0] == pytest.approx((w["last.weight"] @ x + w["last.bias"])[0], abs=1e-5)


def test_dice_by_numpy() -> None:
    torch.manual_seed(0)
    dice, x = Dice(2), torch.randn(50, 2) * 3 + 1
    with torch.no_grad():
        dice.slope.copy_(torch.tensor([0.1, -0.5]))
    z = x.numpy()
    p = 1 / (1 + np.exp(-(z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)))
    expected = p * z + (1 - p) * np.array([0.1, -0.5]) * z
    assert np.allclose(dice(x).detach().numpy(), expected, atol=1e-5)
    assert np.allclose(dice.standardize.running_mean, 0.1 * z.mean(0), atol=1e-5)
    assert np.allclose(dice.standardize.running_var, 0.9 + 0.1 * z.var(0, ddof=1), atol=1e-5)
    p = 1 / (1 + np.exp(-(z - dice.standardize.running_mean.numpy()) / np.sqrt(dice.standardize.running_var + 1e-5)))
    expected = p * z + (1 - p) * np.array([0.1, -0.5]) * z
    assert np.allclose(dice.eval()(x).detach().numpy(), expected, atol=1e-5)


def test_dice_gradients_equal_those_of_its_formula() -> None:
    torch.manual_seed(0)
    dice, x, g = Dice(3), (torch.randn(40, 3) * 2 + 1).requires_grad_(), torch.randn(40, 3)
    with torch.no_grad():
        dice.slope.copy_(torch.tensor([0.1, -0.5, 2.0]))
    found = torch.autograd.grad(dice(x), (x, dice.slope), g)
    p = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).sigmoid()
    expected = torch.autograd.grad(p * x + (1 - p) * dice.slope * x, (x, dice.slope), g)
    for output, reference in zip(found, expected, strict=True):
        assert torch.allclose(output, reference, atol=1e-4)


def test_numeric_steps_by_hand() -> None:
    steps = NumericSteps(3, 2, 1.0)
    with torch.no_grad():
        steps.scale.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]]))
        steps.shift.copy_(torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]]))
    found = steps(torch.tensor([2, 0]), torch.tensor([10.0, -1.0]))
    assert found.tolist() == [[1.0, 30.0], [-0.5, 0.5]]


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_pooling_row_by_row(with_target: PreparedDataset, pooling: str) -> None:
    torch.manual_seed(0)
    split = with_target.split("full")
    config = DINConfig(embedding_dim=4, embedding_init_std=0.5, pooling=pooling, attention_dims=(6,))
    model = with_tables(DIN(config, split.schema)).eval()
    batch = split.batch(np.arange(30), model.sequences)
    with torch.no_grad():
        events = model.events(batch)
        target, seen = events["shop"].values(), events["seen"]
        found, _ = model.pool("seen", seen.values(), EventRows(seen.lengths(), len(seen.values()), 5), target)
        for row, own in enumerate(seen.to_dense()):
            if len(own) == 0:
                expected = torch.zeros(4)
            elif pooling == "mean":
                expected = own.mean(0)
            else:
                weights = model.units["seen"](
                    own, target[row : row + 1], EventRows(torch.tensor([len(own)]), len(own), 5)
                )
                expected = (weights * own).sum(0)
            assert torch.allclose(found[row], expected, atol=1e-5)


def test_a_sequence_shares_the_targets_table(with_target: PreparedDataset) -> None:
    schema = with_target.split("full").schema
    shared = schema.model_copy(
        update={"token_sequences": tuple(s.model_copy(update={"vocabulary": "shop"}) for s in schema.token_sequences)}
    )
    model = DIN(DINConfig(), shared)
    assert list(model.events.tables) == ["shop"]
    assert model.features.features == ["color"]


def test_cross_layers_are_parallel_to_the_mlp(with_target: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = with_target.split("full")
    config = DINConfig(embedding_dim=4, embedding_init_std=0.5, cross_depth=1)
    model = with_tables(DIN(config, split.schema)).eval()
    inputs: list[np.ndarray] = []
    model.mlp.register_forward_hook(lambda _, args, out: inputs.extend(x.detach().numpy() for x in (*args, out)))
    found = model(split.batch(np.arange(20), model.sequences)).detach().numpy()
    x0, deep = inputs
    assert model.cross is not None
    cross = {name: value.detach().numpy() for name, value in model.cross.named_parameters()}
    x1 = x0 * (x0 @ cross["layers.0.weight"].T + cross["layers.0.bias"]) + x0
    weight, bias = (value.detach().numpy() for value in model.head.parameters())
    assert np.allclose(found, np.concatenate([deep, x1], axis=1) @ weight[0] + bias, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_match_scores_bypass_the_mlp(with_target: PreparedDataset, softmax: bool) -> None:
    """The mean score of each row, by a loop; zero without behaviors."""
    config = DINConfig(
        embedding_dim=4, embedding_init_std=0.5, attention_dims=(6,), attention_softmax=softmax, match_scores=True
    )
    found = forward(config, with_target, 30)
    model, target_BD = found.model, found.events["shop"].values()
    with torch.no_grad():
        scores = torch.zeros(30, 2)
        for row, own in enumerate(found.events["seen"].to_dense()):
            target, own_rows = target_BD[row : row + 1], EventRows(torch.tensor([len(own)]), len(own), 5)
            scores[row, 0] = model.units["seen"](own, target, own_rows).mean() if len(own) else 0.0
        steps = found.batch.sequences["steps"]
        place, value = steps.values().long(), steps.weights()
        row_T = torch.repeat_interleave(torch.arange(30), steps.lengths().long())
        rows = EventRows(steps.lengths(), len(place), 3)
        weights = model.units["steps"](model.steps["steps"](place, value), target_BD, rows)
        for row in range(30):
            scores[row, 1] = weights[row_T == row].mean()
        assert (scores[:, 0] == 0).any()
        assert torch.allclose(found.logit, found.logit_with(scores), atol=1e-5)


def test_target_with_features_are_added_to_the_target(with_target: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = with_target.split("full")
    config = DINConfig(embedding_dim=4, embedding_init_std=0.5, target_with=("color",))
    model = with_tables(DIN(config, split.schema)).eval()
    targets: list[torch.Tensor] = []
    model.units["seen"].register_forward_hook(lambda _, args, out: targets.append(args[1]))
    batch = split.batch(np.arange(20), model.sequences)
    with torch.no_grad():
        model(batch)
        events = model.events(batch)
    assert torch.allclose(targets[0], events["shop"].values() + events["color"].values())
    assert model.features.features == []


def test_invalid_din_configs_are_refused(small: PreparedDataset, with_target: PreparedDataset) -> None:
    with pytest.raises(InputError, match=r"din needs schema.target_item \(the column of the candidate item\), not set"):
        DIN(DINConfig(), small.split("full").schema)
    no_behaviours = with_target.split("full").schema.model_copy(update={"token_sequences": (), "column_sequences": ()})
    with pytest.raises(InputError, match=r"din needs schema.sequences \(the behaviours that it attends to\), not set"):
        DIN(DINConfig(), no_behaviours)
    with pytest.raises(ValueError, match="behaviours is empty, and din attends to behaviours"):
        DINConfig(behaviours=())
    with pytest.raises(InputError, match="model.behaviours: 'sean' is not a sequence: the schema has seen, steps"):
        DIN(DINConfig(behaviours=("sean",)), with_target.split("full").schema)
    for wrong in ("shop", "colour"):
        with pytest.raises(
            InputError, match=f"model.target_with: {wrong!r} must be a categorical feature other than 'shop'"
        ):
            DIN(DINConfig(target_with=(wrong,)), with_target.split("full").schema)
    with pytest.raises(ValueError, match="match_scores=true needs pooling=attention, got pooling=mean"):
        DINConfig(pooling="mean", match_scores=True)
