"""Dice, the activation of DIN's attention units, which is most of their work."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Dice(nn.Module):
    """p x + (1 - p) a x with p = sigmoid of the standardized x: a PReLU that bends where the data lies.

    Source: Zhou et al., "Deep Interest Network", KDD 2018, equation 9. As with batch normalization, the moments are
    those of the rows at hand in training, and their moving average else; a single row has none of its own.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standardize = nn.BatchNorm1d(width, affine=False)
        self.slope = nn.Parameter(torch.zeros(width))

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] to the same."""
        slope, known = self.slope.to(x_BD.dtype), self.standardize  # mixed types are slow
        moments = (known.running_mean, known.running_var)
        if self.training and len(x_BD) > 1:
            y_BD: Tensor = _Dice.apply(x_BD, slope, *moments, known.momentum, known.eps)
            return y_BD
        p_BD = nn.functional.batch_norm(x_BD, *moments, eps=known.eps).sigmoid()
        return x_BD * torch.addcmul(slope, p_BD, 1 - slope)


class _Dice(torch.autograd.Function):
    """The formula by the moments of x, which it moves the others towards.

    By hand its backward pass over all events is two thirds of what it is operation by operation.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BD: Tensor, slope: Tensor, known_mean: Tensor, known_variance: Tensor, momentum: float, eps: float
    ) -> Tensor:
        z_BD, mean, inv_std = torch.native_batch_norm(x_BD, None, None, known_mean, known_variance, True, momentum, eps)
        p_BD = z_BD.sigmoid_()
        ctx.save_for_backward(x_BD, slope, p_BD, mean, inv_std)
        ctx.eps = eps
        return x_BD * torch.addcmul(slope, p_BD, 1 - slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_BD: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Through x itself and through z, the standardized x."""
        x_BD, slope, p_BD, mean, inv_std = ctx.saved_tensors
        gx_BD = g_BD * x_BD
        of_slope = torch.addcmul(gx_BD, gx_BD, p_BD, value=-1).sum(0)
        of_z_BD = torch.ops.aten.sigmoid_backward(gx_BD.mul_(1 - slope), p_BD)
        of_x_BD, _, _ = torch.ops.aten.native_batch_norm_backward(
            of_z_BD, x_BD, None, None, None, mean, inv_std, True, ctx.eps, [True, False, False]
        )
        of_x_BD.addcmul_(g_BD, torch.addcmul(slope, p_BD, 1 - slope))
        return of_x_BD, of_slope, None, None, None, None
