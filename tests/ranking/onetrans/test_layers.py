"""The block against a dense reference, token by token."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ranking.onetrans.layers import Block, MixedLinear, OwnLinear

F, L, D = 3, 5, 8


def test_own_linear_by_hand() -> None:
    layer = OwnLinear(2, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0], [2.0]], [[-1.0], [0.5]]]))
        layer.bias.copy_(torch.tensor([[[10.0]], [[20.0]]]))
    # token 1: 3 + 2 * 4 + 10; token 2: -5 + .5 * 6 + 20
    assert layer(torch.tensor([[[3.0, 4.0], [5.0, 6.0]]])).flatten().tolist() == [21.0, 18.0]


def mapped(layer: MixedLinear, x_PD: Tensor) -> Tensor:
    """The map of one row, token by token."""
    n = layer.n_features
    own = [x @ layer.own.weight[k] + layer.own.bias[k, 0] for k, x in enumerate(x_PD[:n])]
    shared = [] if layer.shared is None else [layer.shared.weight @ x + layer.shared.bias for x in x_PD[n:]]
    return torch.stack([*own, *shared])


def normalized(norm: nn.RMSNorm, x_PD: Tensor) -> Tensor:
    return x_PD / (x_PD.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt() * norm.weight


def reference(block: Block, x_PD: Tensor, is_present_P: Tensor) -> Tensor:
    """The output of a block for one row, by loops over heads and queries, with absent tokens left out."""
    normed = normalized(block.attention_norm, x_PD)
    query, key_value = mapped(block.query, normed[: block.n_queries]), mapped(block.key_value, normed)
    head = D // block.n_heads
    attended = torch.zeros(block.n_queries, D)
    for h in range(block.n_heads):
        own = slice(h * head, (h + 1) * head)
        keys, values = key_value[:, :D][is_present_P, own], key_value[:, D:][is_present_P, own]
        for q in range(block.n_queries):
            weights = np.exp((keys @ query[q, own] / head**0.5).detach().numpy())
            attended[q, own] = torch.tensor(weights / weights.sum()) @ values
    x_QD = x_PD[: block.n_queries] + mapped(block.out, attended)
    hidden = functional.gelu(mapped(block.ffn_in, normalized(block.ffn_norm, x_QD)))
    return x_QD + mapped(block.ffn_out, hidden)


@pytest.mark.parametrize("n_events", [0, 2, L])
def test_a_block_equals_a_dense_reference(n_events: int) -> None:
    torch.manual_seed(0)
    block = Block(F, n_events, D, n_heads=2, d_ffn=6, dropout=0.0)
    with torch.no_grad():
        for norm in (block.attention_norm, block.ffn_norm):
            norm.weight.uniform_(0.5, 2)
        x_BPD = torch.randn(4, F + L, D)
        is_present = torch.ones(4, F + L, dtype=torch.bool)
        is_present[:, F:] = torch.arange(L) < torch.tensor([0, 1, 3, 5]).unsqueeze(1)
        found = block(x_BPD, is_present)
        assert found.shape == (4, F + n_events, D)
        for row in range(4):
            assert torch.allclose(found[row], reference(block, x_BPD[row], is_present[row]), atol=1e-5)


def test_absent_events_are_never_read() -> None:
    torch.manual_seed(0)
    block = Block(F, 0, D, n_heads=2, d_ffn=6, dropout=0.0)
    x_BPD, is_present = torch.randn(2, F + L, D), torch.ones(2, F + L, dtype=torch.bool)
    is_present[:, F + 2 :] = False
    changed = x_BPD.clone()
    changed[:, F + 2 :] = 100.0
    assert torch.equal(block(x_BPD, is_present), block(changed, is_present))
    assert torch.allclose(block(x_BPD, is_present), block(x_BPD[:, : F + 2], is_present[:, : F + 2]), atol=1e-6)


def test_events_share_weights_and_features_do_not() -> None:
    torch.manual_seed(0)
    layer = MixedLinear(F, D, 4, has_events=True)
    same = torch.randn(D).expand(1, F + L, D)
    features, events = layer(same).split([F, L], dim=1)
    assert len(events[0].unique(dim=0)) == 1
    assert len(features[0].unique(dim=0)) == F
