"""Causal attention over jagged steps: rows of similar length are padded together, so that little padding is computed.

Shapes: B rows of a batch, S steps of all rows, G rows of a group, L steps of a group's longest row, H heads, D width.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recsys.nn.jagged import row_of_event, softmax_by_row, sum_by_row

_N_GROUPS = {"cpu": 4}
"""Groups of a batch, by type of device; one group on a GPU, where a call costs more than the padding."""
_MIN_ROWS = 4


class LengthGroups:
    """Maps the steps of jagged rows to groups of padded rows and back.

    Args:
        length_B: [B] int64 number of steps of each row, at least 1.
    """

    def __init__(self, length_B: Tensor) -> None:
        device = length_B.device
        n_rows = len(length_B)
        self.n_steps = int(length_B.sum())
        start_B = length_B.cumsum(0) - length_B
        row_S = row_of_event(length_B, self.n_steps)
        self.position = torch.arange(self.n_steps, device=device) - start_B.index_select(0, row_S)
        """[S] int64: the position of each step in its row."""
        self.last_B = length_B.cumsum(0) - 1
        """[B] int64: the last step of each row."""
        self._row_S = row_S
        n_groups = max(1, min(_N_GROUPS.get(device.type, 1), n_rows // _MIN_ROWS))
        order_B = length_B.argsort() if n_groups > 1 else torch.arange(n_rows, device=device)
        self._steps: list[Tensor] = []
        """The [G, L] steps at the places of each group; a row's last step fills its padding, which none attends to."""
        place_B, n_places = torch.empty_like(length_B), 0
        for rows in order_B.tensor_split(n_groups):
            if len(rows) == 0:
                continue
            length_G, longest = length_B[rows], int(length_B[rows].max())
            position_GL = torch.minimum(torch.arange(longest, device=device), length_G.unsqueeze(1) - 1)
            self._steps.append(start_B[rows].unsqueeze(1) + position_GL)
            place_B[rows] = n_places + longest * torch.arange(len(rows), device=device)
            n_places += len(rows) * longest
        self._place_S = place_B.index_select(0, row_S) + self.position

    def attend(self, q_SD: Tensor, k_SD: Tensor, v_SD: Tensor, n_heads: int) -> Tensor:
        """Returns the [S, D] results of softmax attention of each step over the steps of its row up to it.

        Computed in float32 on a CPU, whose kernel takes twice as long for 16-bit gradients.
        """
        qkv_S3D = torch.stack([q_SD, k_SD, v_SD], dim=1)
        if qkv_S3D.device.type == "cpu":
            qkv_S3D = qkv_S3D.float()
        parts = []
        for step_GL in self._steps:
            n_rows, longest = step_GL.shape
            qkv = qkv_S3D.index_select(0, step_GL.view(-1)).view(n_rows, longest, 3, n_heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            parts.append(y.transpose(1, 2).reshape(n_rows * longest, -1))
        return torch.cat(parts).index_select(0, self._place_S) if parts else q_SD

    def attend_pointwise(self, q_SD: Tensor, k_SD: Tensor, v_SD: Tensor, bias_HP: Tensor) -> Tensor:
        """Returns the [S, D] sums over the steps up to each one of silu(q . k + bias) v / P.

        Args:
            q_SD: queries.
            k_SD: keys.
            v_SD: values.
            bias_HP: bias of each head by the number of steps between query and key; P is the longest row.
        """
        n_heads, n_positions = bias_HP.shape
        qkv_S3D, parts = torch.stack([q_SD, k_SD, v_SD], dim=1), []
        for step_GL in self._steps:
            n_rows, longest = step_GL.shape
            qkv = qkv_S3D.index_select(0, step_GL.view(-1)).view(n_rows, longest, 3, n_heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            place_L = torch.arange(longest, device=q.device)
            distance_LL = place_L.unsqueeze(1) - place_L
            bias_HLL = bias_HP.index_select(1, distance_LL.clamp(min=0).view(-1)).view(n_heads, longest, longest)
            weight_GHLL = functional.silu(q @ k.transpose(2, 3) + bias_HLL) * (distance_LL >= 0)
            parts.append((weight_GHLL @ v / n_positions).transpose(1, 2).reshape(n_rows * longest, -1))
        return torch.cat(parts).index_select(0, self._place_S) if parts else q_SD

    def attend_last(self, q_BD: Tensor, k_SD: Tensor, v_SD: Tensor, n_heads: int) -> Tensor:
        """Returns the [B, D] results of softmax attention of each row's last step over all steps of the row."""
        scale, parts = (q_BD.shape[1] // n_heads) ** -0.5, []
        for q, k, v in zip(*(x.float().chunk(n_heads, dim=1) for x in (q_BD, k_SD, v_SD)), strict=True):
            score_S = scale * (q.index_select(0, self._row_S) * k).sum(dim=1)
            weight_S = softmax_by_row(score_S, self._row_S, len(q))
            parts.append(sum_by_row(weight_S.unsqueeze(1) * v, self._row_S, len(q)))
        return torch.cat(parts, dim=1)
