import numpy as np
import pytest
import torch

from ranking.xdeepfm import CIN, XDeepFM, XDeepFMConfig
from recsys.data.dataset import PreparedDataset
from tests.helpers.sharded import with_tables


def cin_by_loops(cin: CIN, x0: np.ndarray, split_half: bool, activation: str) -> np.ndarray:
    """Equation 6 with explicit sums."""
    x, outputs = x0, []
    for number, layer in enumerate(cin.layers):
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        maps = np.zeros((len(x0), len(weight), x0.shape[2]))
        for h in range(len(weight)):
            for i in range(x.shape[1]):
                for j in range(x0.shape[1]):
                    maps[:, h] += weight[h, i * x0.shape[1] + j] * x[:, i] * x0[:, j]
            maps[:, h] += bias[h]
        maps = np.maximum(maps, 0) if activation == "relu" else maps
        half = len(weight) // 2 if split_half and number < len(cin.layers) - 1 else 0
        outputs.append(maps[:, half:].sum(2))
        x = maps[:, :half] if half else maps
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("split_half", [True, False])
@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_cin_by_loops(split_half: bool, activation: str) -> None:
    torch.manual_seed(0)
    cin = CIN(3, (4, 6, 2), split_half, activation)
    x0 = torch.randn(5, 3, 2)
    expected = cin_by_loops(cin, x0.double().numpy(), split_half, activation)
    assert expected.shape == (5, cin.d_out) == (5, 2 + 3 + 2 if split_half else 12)
    assert np.allclose(cin(x0).detach().numpy(), expected, atol=1e-5)


def test_cin_of_one_row_by_hand() -> None:
    cin = CIN(2, (1,), True, "identity")
    with torch.no_grad():
        cin.layers[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        cin.layers[0].bias.zero_()
    # fields (1, 2) and (3, 5): over the first dimension 1*1 + 2*1*3 + 3*3*1 + 4*3*3 = 52, over the second
    # 1*2*2 + 2*2*5 + 3*5*2 + 4*5*5 = 154
    assert cin(torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])).item() == 52 + 154


def test_the_three_parts_add_up(small: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = small.split("full")
    model = with_tables(XDeepFM(XDeepFMConfig(embedding_dim=3, hidden_dims=(8,), cin_dims=(4,)), split.schema)).eval()
    batch = split.batch(np.arange(30), model.sequences)
    with torch.no_grad():
        fields = model.embeddings(batch)
        cin, deep = model.cin(fields.view(30, 3, 3)), model.mlp(torch.cat([fields, batch.dense], dim=1))
        weight = model.head.linear.weight[0]
        expected = torch.cat([cin, deep, batch.dense], dim=1) @ weight + model.head.linear.bias
        for name, column in (("color", 0), ("shop", 1)):  # the linear weight of an id: the mean of its row
            ids = batch.sparse[name].values().long()
            table = dict(model.id_weights.collection.embedding_bags.items())[name].weight
            expected = expected + table[ids].mean(1)
            assert model.id_weights.features[column] == name
        seen = batch.sequences["seen"]
        table = dict(model.id_weights.collection.embedding_bags.items())["seen"].weight
        for row, ids in enumerate(seen.to_dense()):
            expected[row] += table[ids.long()].mean() if len(ids) else 0.0
        assert torch.allclose(model(batch), expected, atol=1e-5)


def test_embedded_numbers_are_fields_of_the_cin(small: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = small.split("full")
    config = XDeepFMConfig(embedding_dim=3, hidden_dims=(8,), cin_dims=(4,), numeric_embeddings="periodic")
    model = with_tables(XDeepFM(config, split.schema)).eval()
    batch = split.batch(np.arange(30), model.sequences)
    with torch.no_grad():
        fields = torch.cat([model.embeddings(batch).view(30, -1, 3), model.numeric(batch.dense)], dim=1)
        assert fields.shape[1] == len(model.embeddings.features) + len(split.schema.dense)
        cin = torch.from_numpy(cin_by_loops(model.cin, fields.double().numpy(), True, "identity")).float()
        deep = model.mlp(fields.flatten(1))
        weight = model.head.linear.weight[0]
        expected = torch.cat([cin, deep, batch.dense], dim=1) @ weight + model.head.linear.bias
        expected = expected + model.id_weights(batch).sum(1) / 4
        assert torch.allclose(model(batch), expected, atol=1e-5)
