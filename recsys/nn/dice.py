"""Dice, the activation of DIN's attention units, where it takes most of the time.

Shapes: B rows of a batch (or its events), D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Dice(nn.Module):
    """p x + (1 - p) a x with p = sigmoid of the standardized x: a PReLU whose turning point follows the data.

    Source: Zhou et al., "Deep Interest Network", KDD 2018, equation 9. As in batch normalization, training standardizes
    by the mean and variance of the rows in the call, evaluation by their moving averages. A single row uses the moving
    averages in training too.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standardize = nn.BatchNorm1d(width, affine=False)
        self.slope = nn.Parameter(torch.zeros(width))

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [B, D]."""
        slope, norm = self.slope.to(x_BD.dtype), self.standardize  # mixed dtypes are slow
        moments = (norm.running_mean, norm.running_var)
        if self.training and len(x_BD) > 1:
            y_BD: Tensor = _Dice.apply(x_BD, slope, *moments, norm.momentum, norm.eps)
            return y_BD
        p_BD = nn.functional.batch_norm(x_BD, *moments, eps=norm.eps).sigmoid()
        return x_BD * torch.addcmul(slope, p_BD, 1 - slope)


class _Dice(torch.autograd.Function):
    """Dice with the moments of x; updates the moving averages in place.

    This backward pass takes two thirds of the time of autograd's.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BD: Tensor, slope: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
    ) -> Tensor:
        z_BD, mean, inv_std = torch.native_batch_norm(x_BD, None, None, running_mean, running_var, True, momentum, eps)
        p_BD = z_BD.sigmoid_()
        ctx.save_for_backward(x_BD, slope, p_BD, mean, inv_std)
        ctx.eps = eps
        return x_BD * torch.addcmul(slope, p_BD, 1 - slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Gradients of x and slope; x contributes directly and through z, the standardized x."""
        x_BD, slope, p_BD, mean, inv_std = ctx.saved_tensors
        grad_times_x_BD = grad_BD * x_BD
        grad_slope = torch.addcmul(grad_times_x_BD, grad_times_x_BD, p_BD, value=-1).sum(0)
        grad_z_BD = torch.ops.aten.sigmoid_backward(grad_times_x_BD.mul_(1 - slope), p_BD)
        grad_x_BD, _, _ = torch.ops.aten.native_batch_norm_backward(
            grad_z_BD, x_BD, None, None, None, mean, inv_std, True, ctx.eps, [True, False, False]
        )
        grad_x_BD.addcmul_(grad_BD, torch.addcmul(slope, p_BD, 1 - slope))
        return grad_x_BD, grad_slope, None, None, None, None
