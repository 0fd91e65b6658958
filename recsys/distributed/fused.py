"""What TorchRec leaves open about tables whose backward pass updates them."""

from collections.abc import Iterator
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import SplitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn
from torchrec.distributed.types import ShardedModule


def fused_kernels(model: nn.Module) -> Iterator[SplitTableBatchedEmbeddingBagsCodegen]:
    """The kernels of a sharded model that hold such tables; sharded modules hide theirs from `modules()`."""
    for module in model.modules():
        if isinstance(module, ShardedModule):
            for look_up in module._lookups:
                yield from (m for m in look_up.modules() if isinstance(m, SplitTableBatchedEmbeddingBagsCodegen))


def set_fused_step(model: nn.Module, step: int) -> None:
    """Tells fused optimizers how many steps were made; Adam's bias correction counts from there."""
    for kernel in fused_kernels(model):
        kernel.set_optimizer_step(step)


class RowL2:
    """The gradient l2 w of the penalty l2 / 2 |w|^2, taken on the rows that a batch touches.

    Row-wise Adagrad takes it with the row's own rate: w -= lr l2 w / (sqrt(v) + eps), v being the mean square of the
    row's gradients so far. fbgemm's kernels know the penalty on GPUs alone, so that it is taken here on every device.
    Fused Adam has a weight decay of touched rows in its kernel.

    Args:
        model: sharded.
        l2: the factor.
    """

    def __init__(self, model: nn.Module, l2: float) -> None:
        self._l2 = l2
        self._looked_up: list[tuple[SplitTableBatchedEmbeddingBagsCodegen, Tensor, Tensor]] = []
        for kernel in fused_kernels(model):
            if l2 and kernel.optimizer == EmbOptimType.EXACT_ROWWISE_ADAGRAD:
                kernel.register_forward_pre_hook(self._remember, with_kwargs=True)

    def _remember(self, kernel: nn.Module, arguments: tuple[Any, ...], named: dict[str, Tensor]) -> None:
        assert isinstance(kernel, SplitTableBatchedEmbeddingBagsCodegen)
        if torch.is_grad_enabled():
            self._looked_up.append((kernel, named["indices"], named["offsets"]))

    @torch.no_grad()
    def step(self) -> None:
        """Pulls on the rows that were looked up since the last step, after their tables' update."""
        for kernel, ids, offsets in self._looked_up:
            weights, states = kernel.split_embedding_weights(), kernel.split_optimizer_states()
            n_rows = (len(offsets) - 1) // len(kernel.feature_table_map)
            of_table: dict[int, list[Tensor]] = {}
            for feature, table in enumerate(kernel.feature_table_map):
                start, stop = int(offsets[feature * n_rows]), int(offsets[(feature + 1) * n_rows])
                of_table.setdefault(table, []).append(ids[start:stop])
            for table, parts in of_table.items():
                touched = torch.cat(parts).unique().long()
                rate = (
                    kernel.get_learning_rate()
                    * self._l2
                    / (states[table][0][touched].sqrt() + kernel.optimizer_args.eps)
                )
                weights[table].index_add_(0, touched, weights[table][touched] * -rate.view(-1, 1).clamp(max=1.0))
        self._looked_up = []
