import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.nn import functional

from ranking.tabm import MembersLinear, TabM, TabMConfig
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.training.losses import WeightedLogLoss
from recsys.training.task import RowLoss
from tests.helpers.sharded import with_tables


def build(small: PreparedDataset, **settings: object) -> TabM:
    torch.manual_seed(0)
    config = TabMConfig.model_validate(
        {"embedding_dim": 3, "hidden_dims": (8, 5), "n_members": 4, "linear_part": False} | settings
    )
    return with_tables(TabM(config, small.split("full").schema))


def test_members_share_a_matrix_by_hand() -> None:
    layer = MembersLinear(2, 1, n_members=2, is_first=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.r.copy_(torch.tensor([[1.0, 1.0], [-1.0, 3.0]]))
        layer.s.copy_(torch.tensor([[1.0], [2.0]]))
        layer.bias.copy_(torch.tensor([[0.5], [-1.0]]))
    # x = (3, 4): member 1: 3 + 8 + .5; member 2: 2 * (-3 + 24) - 1
    assert layer(torch.tensor([[[3.0, 4.0]]])).flatten().tolist() == [11.5, 41.0]


def test_each_member_is_an_mlp_with_its_own_scaled_weights(small: PreparedDataset) -> None:
    model = build(small).eval()
    batch = small.split("full").batch(np.arange(20), model.sequences)
    with torch.no_grad():
        x = torch.cat([model.inputs.embeddings(batch), batch.dense], dim=1)
        logits = []
        for k in range(4):
            h = x
            for layer in model.layers:
                own = layer[0]
                weight = own.s[k].unsqueeze(1) * own.weight * own.r[k]
                h = functional.linear(h, weight, own.bias[k]).relu()
            logits.append(h @ model.head.weight[k] + model.head.bias[k])
        expected = torch.stack(logits)
        assert torch.allclose(model.member_logits(batch), expected, atol=1e-5)
        p = expit(expected.double().numpy()).mean(0)
        assert expit(model(batch).double().numpy()) == pytest.approx(p, rel=1e-5)


def test_members_start_different(small: PreparedDataset) -> None:
    model = build(small, hidden_dims=(8,))
    assert set(model.layers[0][0].r.detach().unique().tolist()) == {-1.0, 1.0}
    assert (build(small).layers[1][0].r == 1).all()


def test_the_loss_is_the_mean_of_the_members(small: PreparedDataset) -> None:
    model = build(small, dropout=0.0)
    batch = small.split("full").batch(np.arange(20), model.sequences)
    losses = RowLoss(model, WeightedLogLoss(3.0))(batch)
    z, y = model.member_logits(batch).detach().double().numpy(), batch.label.numpy()
    expected = np.where(y > 0.5, 3 * np.logaddexp(0, -z), np.logaddexp(0, z)).mean(0)
    assert losses.detach().numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [{"self_ensemble": 1.0}, {"branches": 1.0}])
def test_members_have_no_other_loss(weights: dict[str, float], small: PreparedDataset) -> None:
    with pytest.raises(InputError, match="TabM has members, each with a loss of its own, and no other"):
        RowLoss(build(small, dropout=0.0), WeightedLogLoss(1.0), **weights)
