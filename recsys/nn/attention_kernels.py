"""Triton kernels of `recsys.nn.attention`. A program computes one head of one row; all keys are one block.

Source: the backward pass is that of Dao et al., "FlashAttention", NeurIPS 2022, appendix B, for a single block of keys.

Shapes: B rows, Q queries and K keys of a row, H heads, C width of a head, M queries of a block, J keys with padding.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """How a program divides its work; measured on a GPU."""

    block: int
    """Most queries of a block."""
    n_warps: int
    n_stages: int


FORWARD, BACKWARD = Tiling(64, 4, 3), Tiling(64, 4, 1)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _mixed(x):
    """Mixes the bits of 32-bit numbers, like the final step of a hash (the constants are those of `lowbias32`)."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _is_kept(seed, program, i, j, n_dropped, J: tl.constexpr):
    """[M, J] bool, false for n_dropped of 2^32 weights: the same in the forward and the backward pass."""
    start = _mixed(_mixed(program.to(tl.uint32)) ^ seed.to(tl.uint32, bitcast=True))
    bits = _mixed((i[:, None] * J + j[None, :]).to(tl.uint32) ^ start)
    return bits >= n_dropped.to(tl.uint32)


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, out_ptr, log_sum_ptr, seed_ptr,
    q_stride, k_stride, scale, kept_factor, n_dropped,
    Q: tl.constexpr, K: tl.constexpr, H: tl.constexpr, C: tl.constexpr, M: tl.constexpr, J: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row, head = (program // H).to(tl.int64), program % H
    c, j = tl.arange(0, C), tl.arange(0, J)
    is_key = j < K
    q_start, k_start = row * Q * q_stride + head * C, row * K * k_stride + head * C  # places in a row have 32 bits
    out_start, log_sum_start = row * Q * (H * C) + head * C, (row * H + head) * Q
    place_JC = j[:, None] * k_stride + c[None, :]
    k_JC = tl.load(k_ptr + k_start + place_JC, mask=is_key[:, None], other=0.0)
    v_JC = tl.load(v_ptr + k_start + place_JC, mask=is_key[:, None], other=0.0)
    for start in range(0, Q, M):
        i = start + tl.arange(0, M)
        is_query = i < Q
        q_MC = tl.load(q_ptr + q_start + i[:, None] * q_stride + c[None, :], mask=is_query[:, None], other=0.0)
        logit_MJ = tl.where(is_key[None, :], tl.dot(q_MC, tl.trans(k_JC)) * (scale * LOG2_E), float("-inf"))
        highest_M = tl.max(logit_MJ, 1)
        p_MJ = tl.exp2(logit_MJ - highest_M[:, None])
        sum_M = tl.sum(p_MJ, 1)
        if HAS_DROPOUT:
            p_MJ = tl.where(_is_kept(tl.load(seed_ptr), program, i, j, n_dropped, J), p_MJ, 0.0)
        out_MC = tl.dot(p_MJ.to(v_JC.dtype), v_JC) * (kept_factor / sum_M)[:, None]
        out_place_MC = i[:, None] * (H * C) + c[None, :]
        tl.store(out_ptr + out_start + out_place_MC, out_MC.to(v_JC.dtype), mask=is_query[:, None])
        tl.store(log_sum_ptr + log_sum_start + i, highest_M + tl.log2(sum_M), mask=is_query)


@triton.jit
def _backward(
    q_ptr, k_ptr, v_ptr, gradient_ptr, log_sum_ptr, seed_ptr, dq_ptr, dk_ptr, dv_ptr,
    q_stride, k_stride, scale, kept_factor, n_dropped,
    Q: tl.constexpr, K: tl.constexpr, H: tl.constexpr, C: tl.constexpr, M: tl.constexpr, J: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row, head = (program // H).to(tl.int64), program % H
    c, j = tl.arange(0, C), tl.arange(0, J)
    is_key = j < K
    q_start, k_start = row * Q * q_stride + head * C, row * K * k_stride + head * C  # places in a row have 32 bits
    out_start, log_sum_start = row * Q * (H * C) + head * C, (row * H + head) * Q
    place_JC = j[:, None] * k_stride + c[None, :]
    k_JC = tl.load(k_ptr + k_start + place_JC, mask=is_key[:, None], other=0.0)
    v_JC = tl.load(v_ptr + k_start + place_JC, mask=is_key[:, None], other=0.0)
    dk_JC, dv_JC = tl.zeros([J, C], tl.float32), tl.zeros([J, C], tl.float32)
    for start in range(0, Q, M):
        i = start + tl.arange(0, M)
        is_query = i < Q
        place_MC = i[:, None] * q_stride + c[None, :]
        q_MC = tl.load(q_ptr + q_start + place_MC, mask=is_query[:, None], other=0.0)
        g_place_MC = i[:, None] * (H * C) + c[None, :]
        g_MC = tl.load(gradient_ptr + out_start + g_place_MC, mask=is_query[:, None], other=0.0)
        log_sum_M = tl.load(log_sum_ptr + log_sum_start + i, mask=is_query, other=float("inf"))
        g_MC = (g_MC * kept_factor).to(g_MC.dtype)
        logit_MJ = tl.where(is_key[None, :], tl.dot(q_MC, tl.trans(k_JC)) * (scale * LOG2_E), float("-inf"))
        p_MJ = tl.exp2(logit_MJ - log_sum_M[:, None])
        dp_MJ = tl.dot(g_MC, tl.trans(v_JC))
        kept_MJ = p_MJ
        if HAS_DROPOUT:
            is_kept_MJ = _is_kept(tl.load(seed_ptr), program, i, j, n_dropped, J)
            kept_MJ, dp_MJ = tl.where(is_kept_MJ, p_MJ, 0.0), tl.where(is_kept_MJ, dp_MJ, 0.0)
        dv_JC += tl.dot(tl.trans(kept_MJ.to(g_MC.dtype)), g_MC)
        ds_MJ = (p_MJ * (dp_MJ - tl.sum(p_MJ * dp_MJ, 1)[:, None])).to(q_MC.dtype)
        tl.store(dq_ptr + q_start + place_MC, (tl.dot(ds_MJ, k_JC) * scale).to(q_MC.dtype), mask=is_query[:, None])
        dk_JC += tl.dot(tl.trans(ds_MJ), q_MC)
    tl.store(dk_ptr + k_start + place_JC, (dk_JC * scale).to(k_JC.dtype), mask=is_key[:, None])
    tl.store(dv_ptr + k_start + place_JC, dv_JC.to(k_JC.dtype), mask=is_key[:, None])


def _parts(query: Tensor | None, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; views of what is packed."""
    if query is not None:
        k, v = packed.chunk(2, dim=2)
        return query, k, v
    q, k, v = packed.chunk(3, dim=2)
    return q, k, v


def _options(q: Tensor, k: Tensor, n_heads: int, dropout: float, tiling: Tiling) -> dict[str, int | float | bool]:
    """Arguments of the kernels that depend on the sizes only."""
    head_width = q.shape[2] // n_heads
    block = min(tiling.block, max(16, triton.next_power_of_2(q.shape[1])))
    n_warps = tiling.n_warps if block == tiling.block else 4
    sizes = {"Q": q.shape[1], "K": k.shape[1], "q_stride": q.stride(1), "k_stride": k.stride(1)}
    blocks = {"H": n_heads, "C": head_width, "M": block, "J": max(16, triton.next_power_of_2(k.shape[1]))}
    options = {
        "scale": head_width**-0.5,
        "kept_factor": 1 / (1 - dropout),
        "n_dropped": min(2**32 - 1, round(dropout * 2**32)),
        "HAS_DROPOUT": dropout > 0,
    }
    return sizes | blocks | options | {"num_warps": n_warps, "num_stages": tiling.n_stages}


def forward(
    query: Tensor | None, packed: Tensor, seed: Tensor, n_heads: int, dropout: float, out: Tensor, log_sum: Tensor
) -> None:
    """Writes the outputs of `recsys.nn.attention.attend` for contiguous tensors."""
    q, k, v = _parts(query, packed)
    grid = (q.shape[0] * n_heads,)
    _forward[grid](q, k, v, out, log_sum, seed, **_options(q, k, n_heads, dropout, FORWARD))


def backward(
    query: Tensor | None, packed: Tensor, gradient: Tensor, log_sum: Tensor, seed: Tensor, n_heads: int, dropout: float,
    d_query: Tensor | None, d_packed: Tensor,
) -> None:  # fmt: skip
    """Writes the gradients of contiguous tensors."""
    q, k, v = _parts(query, packed)
    dq, dk, dv = _parts(d_query, d_packed)
    grid = (q.shape[0] * n_heads,)
    _backward[grid](q, k, v, gradient, log_sum, seed, dq, dk, dv, **_options(q, k, n_heads, dropout, BACKWARD))
