"""Multi-head attention over the tokens of a row; on a GPU by one kernel each for the forward and the backward pass.

A row has few tokens: the weights of a head for a block of queries fit in the registers of a GPU's processor. Kernels
for long sequences take several times as long there.

Shapes: B rows of a batch, Q queries and K keys of a row, H heads, D width of a token, C = D / H.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

try:
    from recsys.nn import attention_kernels as kernels
except ImportError:  # Triton comes with torch's builds for GPUs
    kernels = None  # type: ignore[assignment]

_MAX_TOKENS = 128
_HEAD_WIDTHS = (16, 32, 64)


def attend(query: Tensor | None, packed: Tensor, n_heads: int, dropout: float) -> Tensor:
    """Attention of each head: dropout(softmax(q k^T / sqrt(C))) v.

    Args:
        query: [B, Q, D] queries; None if they are packed too.
        packed: [B, K, 2 D] keys and values, or [B, K, 3 D] queries, keys and values.
        n_heads: H.
        dropout: probability that a weight is zeroed; the others are scaled up.

    Returns:
        [B, Q, D]: the heads side by side.
    """
    if _has_kernel(query, packed, n_heads):
        seed = torch.randint(-(2**31), 2**31 - 1, (1,), dtype=torch.int32, device=packed.device)
        return attend_by_kernel(query, packed, seed, n_heads, dropout)[0]
    parts = packed.chunk(3, dim=2) if query is None else (query, *packed.chunk(2, dim=2))
    q, k, v = (x.unflatten(2, (n_heads, -1)).transpose(1, 2) for x in parts)
    return functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)


def _has_kernel(query: Tensor | None, packed: Tensor, n_heads: int) -> bool:
    """Whether there is a kernel for these tensors."""
    head_width = packed.shape[2] // (3 if query is None else 2) // n_heads
    n_tokens = packed.shape[1] if query is None else max(packed.shape[1], query.shape[1])
    is_suitable = head_width in _HEAD_WIDTHS and n_tokens <= _MAX_TOKENS and 0 < len(packed) < 2**27 // n_heads
    is_16_bit = packed.dtype in (torch.bfloat16, torch.float16)
    return kernels is not None and packed.device.type == "cuda" and is_16_bit and is_suitable


@torch.library.custom_op("recsys::attend", mutates_args=())
def attend_by_kernel(
    query: Tensor | None, packed: Tensor, seed: Tensor, n_heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    """See `attend`; [1] int32 `seed` decides what is dropped. Also returns the [B, H, Q] log2 of the normalizers."""
    out, log_sum = _outputs(query, packed, seed, n_heads, dropout)
    query = None if query is None else query.contiguous()
    kernels.forward(query, packed.contiguous(), seed, n_heads, dropout, out, log_sum)
    return out, log_sum


@attend_by_kernel.register_fake
def _outputs(query: Tensor | None, packed: Tensor, seed: Tensor, n_heads: int, dropout: float) -> tuple[Tensor, Tensor]:
    n_rows, n_keys, width = packed.shape
    n_queries, width = (n_keys, width // 3) if query is None else (query.shape[1], width // 2)
    log_sum = packed.new_empty(n_rows, n_heads, n_queries, dtype=torch.float32)
    return packed.new_empty(n_rows, n_queries, width), log_sum


@torch.library.custom_op("recsys::attend_backward", mutates_args=())
def _gradients(
    query: Tensor | None, packed: Tensor, gradient: Tensor, log_sum: Tensor, seed: Tensor, n_heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `query`, empty if it is None, and of `packed`."""
    d_query, d_packed = _empty_gradients(query, packed, gradient, log_sum, seed, n_heads, dropout)
    given = None if query is None else query.contiguous()
    of_query = None if query is None else d_query
    packed, gradient = packed.contiguous(), gradient.contiguous()
    kernels.backward(given, packed, gradient, log_sum, seed, n_heads, dropout, of_query, d_packed)
    return d_query, d_packed


@_gradients.register_fake
def _empty_gradients(
    query: Tensor | None, packed: Tensor, gradient: Tensor, log_sum: Tensor, seed: Tensor, n_heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    d_query = packed.new_empty(0 if query is None else query.shape)
    return d_query, packed.new_empty(packed.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, packed, seed, ctx.n_heads, ctx.dropout = inputs
    ctx.save_for_backward(query, packed, seed, output[1])


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
    query, packed, seed, log_sum = ctx.saved_tensors
    d_query, d_packed = _gradients(query, packed, gradient, log_sum, seed, ctx.n_heads, ctx.dropout)
    return None if query is None else d_query, d_packed, None, None, None


attend_by_kernel.register_autograd(_backward, setup_context=_save)
