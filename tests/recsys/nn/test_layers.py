import pytest
import torch
from torch import nn

from recsys.nn.layers import MLP, Dropout, LogitHead, StochasticDepth, concat, hashed_dropout


def test_dropout_keeps_the_mean_and_zeros_the_given_share() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.3)
    out = dropout(torch.ones(1000, 999))  # not a multiple of the numbers drawn at once
    share = (out == 0).float()
    assert share.mean().item() == pytest.approx(0.3, abs=0.002)
    assert out.mean().item() == pytest.approx(1.0, abs=0.003)
    assert out[out != 0].unique().tolist() == pytest.approx([1 / 0.7], rel=1e-4)
    # adjacent units and adjacent rows are uncorrelated
    for a, b in ((share[:, :-1], share[:, 1:]), (share[:-1], share[1:])):
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()) < 0.004


def test_dropout_is_the_identity_outside_training() -> None:
    x = torch.randn(10, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropout_gradient_uses_the_same_mask() -> None:
    x = torch.ones(50, 7, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())  # for x = 1, d out / d x equals out


def test_stochastic_depth_drops_whole_rows() -> None:
    torch.manual_seed(0)
    out = StochasticDepth(0.25)(torch.ones(4000, 3, 2))
    rows = out.flatten(1)
    assert (rows == rows[:, :1]).all()
    assert (rows[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert rows[:, 0].unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(StochasticDepth(0.25).eval()(out), out)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    """Dropout draws the same mask when activations are recomputed."""

    def gradients(is_on: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        mlp = MLP(5, (8, 4), 0.5, gradient_checkpointing=is_on)
        mlp(torch.randn(20, 5)).square().sum().backward()
        return [p.grad for p in mlp.parameters() if p.grad is not None]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(a, b)


def test_gradient_checkpointing_saves_only_inputs() -> None:
    def saved_bytes(is_on: bool) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        mlp = MLP(64, (64, 64, 64), 0.1, gradient_checkpointing=is_on)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = mlp(torch.randn(1000, 64, requires_grad=True))
        del out
        return sum(sizes.values())

    assert saved_bytes(True) < 0.6 * saved_bytes(False)


def test_logits_are_float32_under_autocast() -> None:
    head = LogitHead(3, 2)
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(a, b)
    assert out.dtype == torch.float32
    assert torch.allclose(out, head.linear(torch.cat([a, b], dim=1))[:, 0])


def test_concat_casts_under_autocast() -> None:
    parts = [torch.randn(2, 3), torch.randn(2, 1)]
    assert torch.equal(concat(parts), torch.cat(parts, dim=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert concat(parts).dtype == torch.bfloat16


def test_an_mlp_without_layers_is_the_identity() -> None:
    mlp, x = MLP(3, (), 0.1), torch.randn(2, 3)
    assert mlp.d_out == 3
    assert torch.equal(mlp(x), x)
    assert isinstance(mlp, nn.Module)


def test_batch_norm_of_a_single_row_reads_the_running_statistics() -> None:
    mlp = MLP(3, (4,), 0.0, batch_norm=True)
    mlp(torch.randn(100, 3))
    row = torch.randn(1, 3)
    trained = mlp(row)
    assert torch.equal(trained, mlp.eval()(row))


def test_dropout_by_a_hash_is_like_dropout() -> None:
    """Shares of dropped units by row and by column have the spread of independent draws; two calls differ."""
    torch.manual_seed(0)
    n_rows, n_columns, probability = 500, 400, 0.25
    x = torch.full((n_rows, n_columns), 3.0, requires_grad=True)
    first, second = (hashed_dropout(x, probability) for _ in range(2))
    assert first.unique().tolist() == [0, 4]
    variance = probability * (1 - probability)
    for axis, n in ((0, n_rows), (1, n_columns)):
        share = (first == 0).float().mean(axis)
        assert share.std().item() == pytest.approx((variance / n) ** 0.5, rel=0.15)
    is_same = ((first == 0) == (second == 0)).float().mean().item()
    assert is_same == pytest.approx(1 - 2 * variance, abs=0.01)
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient * 3, first.detach())
