"""Sequential encoders against one row at a time and a formula; attention over groups of rows of similar length."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.sequential.attention import LengthGroups
from retrieval.sequential.config import LayerKind, SequentialConfig
from retrieval.sequential.encoder import SequentialEncoder
from retrieval.sequential.hstu import HSTULayer
from retrieval.sequential.layers import LiGRLayer, SASRecLayer

KINDS: tuple[LayerKind, ...] = ("sasrec", "ligr", "hstu")
LENGTHS = torch.tensor([3, 1, 6, 2, 6, 1, 4, 2, 5, 3, 1, 6, 2, 3, 4, 1, 2])


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention of one row, step by step."""
    rows = []
    for step in range(len(q)):
        weight = (k[: step + 1] @ q[step] / math.sqrt(q.shape[1])).softmax(dim=0)
        rows.append(weight @ v[: step + 1])
    return torch.stack(rows)


def test_grouped_attention_by_a_loop() -> None:
    torch.manual_seed(0)
    n_steps = int(LENGTHS.sum())
    q, k, v = (torch.randn(n_steps, 6, requires_grad=True) for _ in range(3))
    groups = LengthGroups(LENGTHS)
    found = groups.attend(q, k, v, n_heads=2)
    ends = LENGTHS.cumsum(0).tolist()
    expected = torch.cat(
        [
            torch.cat([attention(*(x[e - n : e, half : half + 3] for x in (q, k, v))) for half in (0, 3)], dim=1)
            for e, n in zip(ends, LENGTHS.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(found, expected)
    weight = torch.randn(n_steps, 6)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert groups.position.tolist() == [step for n in LENGTHS.tolist() for step in range(n)]


def layer_input() -> tuple[Tensor, LengthGroups]:
    torch.manual_seed(1)
    return torch.randn(5, 4), LengthGroups(torch.tensor([5]))


def test_sasrec_layer_by_its_formula() -> None:
    x, groups = layer_input()
    layer = SASRecLayer(SequentialConfig(ffn_factor=2), 4).eval()
    q = layer.norm_1(x)
    k, v = layer.key_value(x).chunk(2, dim=1)
    y = layer.norm_2(q + layer.out(attention(layer.query(q), k, v)))
    expected = y + layer.ffn_out(layer.ffn_in(y).clamp(min=0))
    torch.testing.assert_close(layer(x, groups), expected)


def test_ligr_layer_by_its_formula() -> None:
    x, groups = layer_input()
    layer = LiGRLayer(SequentialConfig(ffn_factor=2), 4).eval()
    y = x + torch.sigmoid(layer.gate_1(x)) * layer.out(attention(*layer.qkv(layer.norm_1(x)).chunk(3, dim=1)))
    a, b = layer.ffn_in(layer.norm_2(y)).chunk(2, dim=1)
    expected = y + torch.sigmoid(layer.gate_2(y)) * layer.ffn_out(functional.silu(a) * b)
    torch.testing.assert_close(layer(x, groups), expected)


def test_hstu_layer_by_a_loop() -> None:
    x, groups = layer_input()
    layer = HSTULayer(SequentialConfig(n_heads=2), 4, 7).eval()
    u, v, q, k = functional.silu(layer.uvqk(layer.norm(x))).chunk(4, dim=1)
    attended = torch.zeros(5, 4)
    for step in range(5):
        for head, half in enumerate((slice(0, 2), slice(2, 4))):
            for other in range(step + 1):
                weight = functional.silu(q[step, half] @ k[other, half] + layer.bias.weight[head, step - other]) / 7
                attended[step, half] += weight.detach() * v[other, half].detach()
    expected = x + layer.out(layer.attended_norm(attended) * u)
    torch.testing.assert_close(layer(x, groups), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_of_a_row_does_not_depend_on_other_rows(kind: LayerKind) -> None:
    torch.manual_seed(0)
    encoder = SequentialEncoder(kind, SequentialConfig(n_heads=2), 4, 6).eval()
    events = torch.randn(int(LENGTHS.sum()), 4)
    parts = zip(events.split(LENGTHS.tolist()), LENGTHS.split(1), strict=True)
    torch.testing.assert_close(encoder(events, LENGTHS), torch.cat([encoder(*part) for part in parts]))
    assert encoder(events[:0], torch.tensor([0, 0])).shape == (2, 4)
    assert encoder(events[:0], LENGTHS[:0]).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_do_not_read_later_events(kind: LayerKind) -> None:
    torch.manual_seed(0)
    encoder = SequentialEncoder(kind, SequentialConfig(), 4, 6).eval()
    events = torch.randn(5, 4)
    changed = torch.cat([events[:3], torch.randn(2, 4)])
    a, b = (encoder(x, torch.tensor([5])) for x in (events, changed))
    torch.testing.assert_close(a[:4], b[:4])
    assert not torch.allclose(a[4:], b[4:])
    flipped = encoder(torch.cat([events[:3].flip(0), events[3:]]), torch.tensor([5]))
    assert not torch.allclose(a[-1], flipped[-1])  # the order counts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_heads", [1, 2])
def test_last_steps_alone_are_the_same(kind: LayerKind, n_heads: int) -> None:
    torch.manual_seed(0)
    encoder = SequentialEncoder(kind, SequentialConfig(n_heads=n_heads), 4, 6).eval()
    lengths = torch.tensor([3, 0, 6, 1])
    events = torch.randn(10, 4)
    every = encoder(events, lengths)
    torch.testing.assert_close(encoder.last(events, lengths), every[torch.tensor([3, 4, 11, 13])])


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="divisible by model.sequential.n_heads, got 4 and 3"):
        SequentialEncoder("ligr", SequentialConfig(n_heads=3), 4, 6)
