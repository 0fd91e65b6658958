import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ranking.finalmlp import BilinearFusion, FeatureGate, FinalMLP, FinalMLPConfig
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from tests.helpers.sharded import with_tables


def test_fusion_by_hand() -> None:
    fusion = BilinearFusion(d_first=2, d_second=4, n_heads=2)
    with torch.no_grad():
        fusion.weight.copy_(torch.tensor([[[1.0, 2.0]], [[0.0, -1.0]]]))
        fusion.linear.linear.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]]))
        fusion.linear.linear.bias.fill_(0.5)
    # head 1: 3 * (1 * 1 + 2 * 2) = 15; head 2: 5 * (0 * 7 - 1 * 4) = -20; linear: 3 + 4 + .5
    logits = fusion(torch.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 2.0, 7.0, 4.0]]))
    assert logits.tolist() == [15 - 20 + 7.5]


def test_a_gate_without_context_is_the_same_for_all_rows() -> None:
    torch.manual_seed(0)
    gate = FeatureGate([], width=3, gate_dims=(4,))
    weights = gate(torch.randn(5, 3))
    assert weights.shape == (1, 3)
    assert ((weights > 0) & (weights < 2)).all()


def test_a_gate_reads_its_context_alone() -> None:
    torch.manual_seed(0)
    gate = FeatureGate([1], width=3, gate_dims=(4,))
    rows = torch.tensor([[0.0, 1.0, 2.0], [9.0, 1.0, 8.0], [0.0, 2.0, 2.0]])
    weights = gate(rows)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_output_is_that_of_its_parts(small: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = small.split("full")
    config = FinalMLPConfig(
        embedding_dim=3,
        hidden_dims=(8,),
        second_hidden_dims=(6, 4),
        first_context=("shop",),
        n_heads=2,
        linear_part=False,
    )
    model = with_tables(FinalMLP(config, split.schema)).eval()
    batch = split.batch(np.arange(20), model.sequences)
    with torch.no_grad():
        x = torch.cat([model.inputs.embeddings(batch), batch.dense], dim=1)
        shop = model.inputs.embeddings.features.index("shop")
        first = model.gates[0]
        first_weights = 2 * torch.sigmoid(first.out(first.mlp(x[:, 3 * shop : 3 * shop + 3])))
        second_weights = model.gates[1](x[:1])
        streams = model.mlps[0](x * first_weights), model.mlps[1](x * second_weights)
        assert torch.allclose(model(batch), model.fusion(*streams))
        assert model.fusion.weight.shape == (2, 4, 2)


def test_settings_are_checked(small: PreparedDataset) -> None:
    with pytest.raises(ValidationError, match="n_heads must divide .* got n_heads=3 with 8 and 9"):
        FinalMLPConfig(hidden_dims=(8,), second_hidden_dims=(9,), n_heads=3)
    with pytest.raises(ValidationError, match="first_context and second_context need gates"):
        FinalMLPConfig(gates=False, first_context=("shop",))
    config = FinalMLPConfig(hidden_dims=(8,), second_hidden_dims=(8,), second_context=("shoop",))
    with pytest.raises(InputError, match="model.second_context: 'shoop' is not .*did you mean 'shop'"):
        FinalMLP(config, small.split("full").schema)
