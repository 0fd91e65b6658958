import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ranking.qnn import QNN, QNNConfig, QuadraticLayer
from recsys.data.dataset import PreparedDataset
from recsys.nn.numeric import LinearEmbeddings
from tests.helpers.sharded import with_tables


def test_a_layer_by_hand() -> None:
    layer = QuadraticLayer(width=2, n_factors=2, dropout=0.0, batch_norm=False)
    linear = layer.factors[0]
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -1.0], [2.0, 0.0], [1.0, 0.5]]))
        linear.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.0]))
    # x = (1, 3): maps (4, -2) and (1, 2.5); activated and summed (5, 2.5); times x, plus x: (6, 10.5)
    assert layer(torch.tensor([[1.0, 3.0]])).tolist() == [[6.0, 10.5]]


def test_layers_double_the_degree() -> None:
    """Where the maps are active, a stack of n layers is a polynomial of degree 2^n of the input's scale."""
    torch.manual_seed(0)
    layers = [QuadraticLayer(3, 2, 0.0, batch_norm=False).double() for _ in range(2)]
    for layer in layers:
        torch.nn.init.uniform_(layer.factors[0].weight, 0.1, 1.0)
        torch.nn.init.zeros_(layer.factors[0].bias)

    def output(scale: float) -> float:
        x = torch.tensor([[0.3, 0.7, 0.2]], dtype=torch.float64) * scale
        for layer in layers:
            x = layer(x)
        return x.sum().item()

    scales = np.arange(1.0, 6.0)
    coefficients = np.polyfit(scales, [output(scale) for scale in scales], 4)
    assert coefficients[0] > 1e-3
    assert output(7.0) == pytest.approx(np.polyval(coefficients, 7.0), rel=1e-9)


def test_the_output_by_numpy(small: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = small.split("full")
    config = QNNConfig(
        embedding_dim=3, n_layers=2, n_factors=2, batch_norm=False, linear_part=False, numeric_embeddings="none"
    )
    model = with_tables(QNN(config, split.schema)).eval()
    batch = split.batch(np.arange(20), model.sequences)
    with torch.no_grad():
        x = torch.cat([model.inputs.embeddings(batch), batch.dense * model.number_scale], dim=1).double().numpy()
        found = model(batch).numpy()
    for layer in model.layers:
        linear = layer[0].factors[0]
        maps = x @ linear.weight.detach().double().numpy().T + linear.bias.detach().double().numpy()
        x = x * np.maximum(maps, 0).reshape(len(x), 2, -1).sum(1) + x
    head = model.head.linear
    expected = x @ head.weight[0].detach().double().numpy() + head.bias.item()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_squares_of_numbers_are_learned() -> None:
    """Hastie's labels are those of a sum of squares: with embeddings of both signs a layer has them."""
    torch.manual_seed(0)
    x = torch.randn(2000, 3)
    target = (x**2).sum(1)
    embed = LinearEmbeddings(3, 4)
    layer, head = QuadraticLayer(12, 4, 0.0, batch_norm=True), torch.nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*embed.parameters(), *layer.parameters(), *head.parameters()], lr=0.02)
    for _ in range(200):
        loss = ((head(layer(embed(x).flatten(1))).squeeze(1) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * target.var().item()


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="n_layers"):
        QNNConfig(n_layers=0)
    with pytest.raises(ValidationError, match="n_factors"):
        QNNConfig(n_factors=0)
    assert QNNConfig().d_numeric == 4
    assert QNNConfig(numeric_embedding_dim=6).d_numeric == 6
    assert QNNConfig(numeric_embeddings="none").d_numeric == 1
