"""Step count and L2 penalty of fused embedding tables, which TorchRec does not set."""

from collections.abc import Iterator
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import SplitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn
from torchrec.distributed.types import ShardedModule


def fused_kernels(model: nn.Module) -> Iterator[SplitTableBatchedEmbeddingBagsCodegen]:
    """Yields the fused kernels of a sharded model; `modules()` does not list the kernels of sharded modules."""
    for module in model.modules():
        if isinstance(module, ShardedModule):
            for lookup in module._lookups:
                yield from (m for m in lookup.modules() if isinstance(m, SplitTableBatchedEmbeddingBagsCodegen))


def set_fused_step(model: nn.Module, step: int) -> None:
    """Sets the number of finished steps in the fused optimizers, for Adam's bias correction."""
    for kernel in fused_kernels(model):
        kernel.set_optimizer_step(step)


class RowL2:
    """Applies the gradient l2 w of the penalty l2 / 2 |w|^2 to the rows that a batch touches.

    The step uses the row's learning rate in row-wise Adagrad: w -= lr l2 w / (sqrt(v) + eps), where v accumulates the
    mean square of the row's gradients; in SGD, w -= lr l2 w. fbgemm's kernels support the penalty on GPUs only, so this
    class applies it on every device. The kernel of fused Adam has a weight decay of touched rows.

    Args:
        model: a sharded model.
        l2: factor of the penalty.
    """

    def __init__(self, model: nn.Module, l2: float) -> None:
        self._l2 = l2
        self._lookups: list[tuple[SplitTableBatchedEmbeddingBagsCodegen, Tensor, Tensor]] = []
        for kernel in fused_kernels(model):
            if l2 and kernel.optimizer in (EmbOptimType.EXACT_ROWWISE_ADAGRAD, EmbOptimType.EXACT_SGD):
                kernel.register_forward_pre_hook(self._record_lookup, with_kwargs=True)

    def _record_lookup(self, kernel: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Tensor]) -> None:
        assert isinstance(kernel, SplitTableBatchedEmbeddingBagsCodegen)
        if torch.is_grad_enabled():
            self._lookups.append((kernel, kwargs["indices"], kwargs["offsets"]))

    @torch.no_grad()
    def step(self, is_finite: Tensor | None = None) -> None:
        """Applies the penalty to the rows looked up since the last step; call it after the update of the tables.

        Args:
            is_finite: [] bool; if it is false, the penalty is zero.
        """
        for kernel, ids, offsets in self._lookups:
            weights, states = kernel.split_embedding_weights(), kernel.split_optimizer_states()
            has_states = kernel.optimizer == EmbOptimType.EXACT_ROWWISE_ADAGRAD
            n_rows = (len(offsets) - 1) // len(kernel.feature_table_map)
            ids_by_table: dict[int, list[Tensor]] = {}
            for feature, table in enumerate(kernel.feature_table_map):
                start, stop = int(offsets[feature * n_rows]), int(offsets[(feature + 1) * n_rows])
                ids_by_table.setdefault(table, []).append(ids[start:stop])
            for table, chunks in ids_by_table.items():
                touched = torch.cat(chunks).unique().long()
                rate = weights[table].new_full((len(touched),), kernel.get_learning_rate() * self._l2)
                if has_states:
                    rate = rate / (states[table][0][touched].sqrt() + kernel.optimizer_args.eps)
                rate = rate.clamp(max=1.0) if is_finite is None else rate.clamp(max=1.0) * is_finite
                weights[table].index_add_(0, touched, weights[table][touched] * -rate.view(-1, 1))
        self._lookups = []
