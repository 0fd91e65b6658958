from typing import Literal

import numpy as np
import pytest
import torch

from ranking.dcnv2 import CrossNet, DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from tests.helpers.sharded import with_tables


def test_cross_layers_by_hand() -> None:
    net = CrossNet(2, depth=2, rank=None)
    with torch.no_grad():
        for layer, (weight, bias) in zip(
            net.layers, [([[1.0, 2.0], [0.0, -1.0]], [0.5, 0.0]), ([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])], strict=True
        ):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    # x0 = (2, 3). Layer 1: W x + b = (2 + 6 + .5, -3); x1 = x0 * that + x0 = (19, -6).
    # Layer 2: W x1 + b = (-6, 20); x2 = (2 * -6 + 19, 3 * 20 - 6) = (7, 54).
    assert net(torch.tensor([[2.0, 3.0]])).tolist() == [[7.0, 54.0]]


def test_full_rank_factors_give_the_full_rank_cross() -> None:
    torch.manual_seed(0)
    low, full = CrossNet(4, depth=1, rank=4), CrossNet(4, depth=1, rank=None)
    down, up = low.layers[0]
    with torch.no_grad():
        full.layers[0].weight.copy_(up.weight @ down.weight)
        full.layers[0].bias.copy_(up.bias)
    x = torch.randn(5, 4)
    assert torch.allclose(low(x), full(x), atol=1e-6)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("rank", [None, 2])
def test_forward_agrees_with_numpy(small: PreparedDataset, structure: str, rank: int | None) -> None:
    torch.manual_seed(1)
    split = small.split("full")
    config = DCNv2Config(structure=structure, cross_rank=rank, embedding_dim=3, hidden_dims=(8, 4), cross_depth=2)
    model = with_tables(DCNv2(config, split.schema)).eval()
    batch = split.batch(np.arange(30), model.sequences)
    weights = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def mlp(x: np.ndarray) -> np.ndarray:
        for name in ("mlp.layers.0.0", "mlp.layers.1.0"):
            x = np.maximum(linear(name, x), 0)
        return x

    x0 = np.concatenate([model.embeddings(batch).detach().numpy(), batch.dense.numpy()], axis=1).astype(np.float64)
    x = x0
    for layer in range(2):
        name = f"cross.layers.{layer}"
        x = x0 * (linear(name, x) if rank is None else linear(f"{name}.1", linear(f"{name}.0", x))) + x
    last = np.concatenate([x, mlp(x0)], axis=1) if structure == "parallel" else mlp(x)
    assert np.allclose(model(batch).detach().numpy(), linear("head.linear", last)[:, 0], atol=1e-4)


def test_sequences_are_read_only_with_pool_sequences(small: PreparedDataset) -> None:
    schema = small.split("full").schema
    assert DCNv2(DCNv2Config(hidden_dims=(8,)), schema).sequences == ("seen",)
    assert DCNv2(DCNv2Config(hidden_dims=(8,), pool_sequences=False), schema).sequences == ()


@pytest.mark.parametrize("kind", ["linear", "periodic", "piecewise_linear", "quantized"])
def test_embeddings_of_numbers_replace_the_numbers(
    small: PreparedDataset, kind: Literal["linear", "periodic", "piecewise_linear", "quantized"]
) -> None:
    torch.manual_seed(0)
    split = small.split("full")
    config = DCNv2Config(embedding_dim=3, hidden_dims=(8,), numeric_embeddings=kind, numeric_embedding_dim=5)
    model = with_tables(DCNv2(config, split.schema)).eval()
    batch = split.batch(np.arange(20), model.sequences)
    with torch.no_grad():
        numbers = model.numeric(batch.dense)
        assert numbers.shape == (20, len(split.schema.dense), 5)
        inputs = torch.cat([model.embeddings(batch), *numbers.unbind(1)], dim=1)
        expected = model.head(model.cross(inputs), model.mlp(inputs))
        assert torch.allclose(model(batch), expected, atol=1e-6)


def test_without_embeddings_of_numbers_the_weights_are_those_of_earlier_versions(small: PreparedDataset) -> None:
    """The names are written out, because checkpoints have them."""
    model = DCNv2(DCNv2Config(hidden_dims=(8,), cross_depth=1), small.split("full").schema)
    dense = [name for name in model.state_dict() if not name.startswith("embeddings.")]
    expected = ["cross.layers.0", "mlp.layers.0.0", "head.linear"]
    assert dense == [f"{name}.{part}" for name in expected for part in ("weight", "bias")]


def test_a_width_without_embeddings_is_refused() -> None:
    with pytest.raises(ValueError, match="numeric_embedding_dim needs numeric_embeddings, got none"):
        DCNv2Config(numeric_embedding_dim=4)
    assert DCNv2Config(numeric_embeddings="linear", embedding_dim=7).d_numeric == 7
    assert DCNv2Config().d_numeric == 1
