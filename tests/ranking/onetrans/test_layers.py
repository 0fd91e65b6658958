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


def mapped(layer: MixedLinear, features: Tensor, events: Tensor) -> Tensor:
    """The map of the tokens of one row, token by token."""
    own = [x @ layer.own.weight[k] + layer.own.bias[k, 0] for k, x in enumerate(features)]
    shared = [] if layer.shared is None else [layer.shared.weight @ x + layer.shared.bias for x in events]
    return torch.stack([*own, *shared])


def normalized(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def reference(block: Block, features: Tensor, events: Tensor, n_events: int) -> Tensor:
    """The output of a block for the tokens that one row has, by loops over heads and queries."""
    n_queries, head = F + min(n_events, len(events)), D // block.n_heads
    x = torch.cat([features, events])
    normed = normalized(block.attention_norm, x)
    query = mapped(block.query, normed[:F], normed[F:n_queries])
    key_value = mapped(block.key_value, normed[:F], normed[F:])
    attended = torch.zeros(n_queries, D)
    for h in range(block.n_heads):
        own = slice(h * head, (h + 1) * head)
        keys, values = key_value[:, :D][:, own], key_value[:, D:][:, own]
        for q in range(n_queries):
            weights = np.exp((keys @ query[q, own]).numpy() / head**0.5)
            attended[q, own] = torch.tensor(weights / weights.sum()) @ values
    x = x[:n_queries] + mapped(block.out, attended[:F], attended[F:])
    normed = normalized(block.ffn_norm, x)
    hidden = functional.gelu(mapped(block.ffn_in, normed[:F], normed[F:]))
    return x + mapped(block.ffn_out, hidden[:F], hidden[F:])


def tokens() -> tuple[Tensor, Tensor, Tensor]:
    """Features, events, and which slots have an event: none, one, three and all."""
    is_event = torch.arange(L) < torch.tensor([0, 1, 3, 5]).unsqueeze(1)
    return torch.randn(4, F, D), torch.randn(4, L, D), is_event


def build(n_events: int) -> Block:
    torch.manual_seed(0)
    block = Block(F, D, n_heads=2, d_ffn=6, dropout=0.0, has_events=n_events > 0)
    with torch.no_grad():
        for norm in (block.attention_norm, block.ffn_norm):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    return block


@pytest.mark.parametrize("n_events", [0, 2, L])
@torch.no_grad()
def test_a_block_equals_a_dense_reference(n_events: int) -> None:
    block = build(n_events)
    features, events, is_event = tokens()
    found, found_events = block(features, events, is_event, n_events)
    assert found_events.shape == (4, n_events, D)
    for row in range(4):
        expected = reference(block, features[row], events[row][is_event[row]], n_events)
        assert torch.allclose(found[row], expected[:F], atol=1e-5)
        is_kept = is_event[row, :n_events]
        assert torch.allclose(found_events[row][is_kept], expected[F:], atol=1e-5)


def test_empty_slots_are_never_read() -> None:
    block = build(2)
    features, events, is_event = tokens()
    changed = torch.where(is_event.unsqueeze(2), events, 100.0).requires_grad_()
    found = block(features, changed, is_event, 2)
    assert torch.equal(found[0], block(features, events, is_event, 2)[0])
    found[0].sum().backward()
    assert changed.grad is not None
    assert not changed.grad[~is_event].any()
    assert changed.grad[is_event].any(dim=1).all()


def test_events_share_weights_and_features_do_not() -> None:
    torch.manual_seed(0)
    layer = MixedLinear(F, D, 4, has_events=True)
    same = torch.randn(D)
    features, events = layer(same.expand(1, F, D), same.expand(1, L, D))
    assert len(events[0].unique(dim=0)) == 1
    assert len(features[0].unique(dim=0)) == F
    assert MixedLinear(F, D, 4, has_events=False)(same.expand(1, F, D), same.expand(1, 0, D))[1].shape == (1, 0, 4)
