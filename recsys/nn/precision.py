"""The precision of matrix products."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor

Precision = Literal["bf16", "fp32"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Context manager that computes matrix products in bfloat16, or in float32."""
    if precision == "fp32":
        return nullcontext()
    return cast(AbstractContextManager[None], torch.autocast(device.type, dtype=torch.bfloat16))


def lowered(x: Tensor) -> Tensor:
    """The same numbers in the precision of autocast on a GPU, which waits for memory more than for products."""
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        return x.to(torch.get_autocast_dtype("cuda"))
    return x


def supports_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
