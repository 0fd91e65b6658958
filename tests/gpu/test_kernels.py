"""The kernels for GPUs against plain torch: on a GPU, or with TRITON_INTERPRET=1 on a CPU."""

import os

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.data.transforms import QuantileNormal
from recsys.nn.attention import attend, attend_by_kernel
from recsys.nn.jagged import EventRows
from recsys.nn.layers import Dropout
from tests.helpers.attention import heads_attend, probe_kept

is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
if not (torch.cuda.is_available() or is_interpreted):
    pytest.skip("there is no GPU", allow_module_level=True)

from recsys.data.resident import kernels as resident_kernels  # noqa: E402
from recsys.nn import jagged_kernels  # noqa: E402

pytestmark = pytest.mark.gpu
DEVICE, DTYPE = ("cpu", torch.float16) if is_interpreted else ("cuda", torch.bfloat16)  # not interpreted: bfloat16
on_a_gpu = pytest.mark.skipif(is_interpreted, reason="plain torch is used on a CPU")
N_HEADS, WIDTH = 4, 64


def inputs(n_queries: int | None, n_keys: int) -> list[Tensor]:
    """Queries if there are some apart, and the packed rest."""
    torch.manual_seed(0)

    def normal(n: int, width: int) -> Tensor:
        return torch.randn(6, n, width).to(DEVICE, DTYPE).requires_grad_()

    if n_queries is None:
        return [normal(n_keys, 3 * WIDTH)]
    return [normal(n_queries, WIDTH), normal(n_keys, 2 * WIDTH)]


def error(found: Tensor, expected: Tensor) -> float:
    """Relative error."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(None, 128), (None, 37), (1, 128), (5, 50)])
def test_attention_and_its_gradients(n_queries: int | None, n_keys: int, dropout: float) -> None:
    given = inputs(n_queries, n_keys)
    query, packed = (None, *given) if n_queries is None else given
    seed = torch.tensor([123], dtype=torch.int32, device=DEVICE)
    found = attend_by_kernel(query, packed, seed, N_HEADS, dropout)[0]
    kept = probe_kept(query, packed, seed, N_HEADS, dropout)
    assert kept.mean().item() == pytest.approx(1 - dropout, abs=0.02)
    expected = heads_attend(query, packed, N_HEADS, kept / (1 - dropout))
    weight = torch.randn_like(found)
    assert error(found, expected) < 0.01
    gradients = (torch.autograd.grad((output * weight).sum(), given) for output in (found, expected))
    for of_kernel, of_torch in zip(*gradients, strict=True):
        assert error(of_kernel, of_torch) < 0.01


@on_a_gpu
def test_attention_draws_anew_in_every_call() -> None:
    (packed,) = inputs(None, 64)
    outputs = [attend(None, packed, N_HEADS, 0.5) for _ in range(2)]
    assert not torch.equal(*outputs)
    assert torch.equal(*[attend(None, packed, N_HEADS, 0.0) for _ in range(2)])


@pytest.mark.parametrize("width", [16, 80, 3])
def test_sums_of_events(width: int) -> None:
    length_B = torch.tensor([0, 3, 50, 1, 0, 33], device=DEVICE)
    rows = EventRows(length_B, 87, 50)
    x_TD = torch.randn(87, width, device=DEVICE)
    expected = torch.zeros(6, width, device=DEVICE).index_add(0, rows.row_T, x_TD)
    offsets = torch.tensor([0, 0, 3, 53, 54, 54, 87], device=DEVICE)
    assert torch.allclose(jagged_kernels.sum_events(x_TD, offsets, 50), expected, atol=1e-5)
    assert torch.allclose(rows.sum(x_TD), expected, atol=1e-5)
    x_BD = torch.randn(6, width, device=DEVICE, requires_grad=True)
    (gradient,) = torch.autograd.grad((rows.spread(x_BD) * x_TD).sum(), x_BD)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_rows_of_a_table() -> None:
    table = torch.randn(9, 16, device=DEVICE, requires_grad=True)
    ids = torch.randint(0, 9, (200,), device=DEVICE)
    for of_ids in (ids, ids.int()):
        found = jagged_kernels.gather_rows(table, of_ids)
        assert torch.equal(found, table[ids])
        weight = torch.randn_like(found)
        gradients = [torch.autograd.grad((rows * weight).sum(), table)[0] for rows in (found, table[ids])]
        assert torch.allclose(*gradients, atol=1e-4)
    assert jagged_kernels.gather_rows(table, ids[:0]).shape == (0, 16)


def test_normal_scores() -> None:
    """Spread values, an atom in each of five places, and a single one; NaN, and values beyond the knots."""
    rng = np.random.default_rng(0)
    knots = {0: np.sort(rng.lognormal(size=257)), 3: np.sort(rng.integers(0, 5, 257)), 4: np.zeros(257)}
    host = QuantileNormal({column: tuple(values.astype(float)) for column, values in knots.items()})
    values = rng.lognormal(size=(53, 6)).astype(np.float32)
    values[[1, 2, 3, 4], [0, 3, 0, 0]] = [np.nan, 3, 1e9, -np.inf]
    on_device, arrays = torch.from_numpy(values.copy()).to(DEVICE), (host.start, host.width, host.score, host.rise)
    tables = [torch.from_numpy(array).to(DEVICE) for array in (host.columns, *arrays, host.ends)]
    resident_kernels.interpolate(on_device, *tables)
    host(values)
    np.testing.assert_allclose(on_device.cpu().numpy(), values, atol=1e-6)


@on_a_gpu
def test_compiled_dropout_draws_anew_in_every_call() -> None:
    compiled, x = torch.compile(Dropout(0.25)), torch.ones(1000, 64, device=DEVICE, requires_grad=True)
    first, second = compiled(x), compiled(x)
    assert not torch.equal(first, second)
    assert (first > 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient, first.detach())  # the same units are dropped in the backward pass


@on_a_gpu
def test_training_goes_on_after_a_failed_recording() -> None:
    """Reading a number inside a recording is refused; random numbers can be drawn afterwards."""
    from recsys.training.update.graphs import _report

    x = torch.ones(8, device=DEVICE)
    recording = torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local")
    with pytest.raises(RuntimeError) as raised, recording:  # noqa: PT012
        torch.rand(8, device=DEVICE)
        float(x.sum())
    _report(raised.value)
    assert torch.rand(8, device=DEVICE).isfinite().all()
