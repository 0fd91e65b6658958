"""TensorBoard logging of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.utils.tensorboard import SummaryWriter

from recsys.evaluation.logits import probability


class Log:
    """Writes to a TensorBoard folder, or discards everything.

    Args:
        folder: the TensorBoard folder; None discards everything (on all processes but one).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._writer = SummaryWriter(str(folder)) if folder is not None else None

    def purge_after(self, step: int) -> None:
        """Hides entries after `step`, which a killed run logged before this run resumed at `step`."""
        if self._writer is not None:
            self._writer.close()
            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Logs one number."""
        if self._writer is not None:
            self._writer.add_scalar(tag, value, step)

    def curves(self, tag: str, label: np.ndarray, logit: np.ndarray, step: int) -> None:
        """Logs the precision-recall curve of [n] labels and logits.

        Thresholds are ranks: at a base rate of 2 %, probability thresholds would all lie in the first of 100 bins.
        """
        if self._writer is not None:
            p = probability(logit)
            rank = np.searchsorted(np.sort(p), p, side="right") / len(p)
            self._writer.add_pr_curve(tag, label, rank, step, num_thresholds=255)

    def table_norms(self, module: str, tables: Mapping[str, Any], step: int) -> None:
        """Logs the mean row norm of each embedding table; for a sharded table, over this process's shards."""
        if self._writer is None:
            return
        for name, value in tables.items():
            shards = [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]
            if shards and sum(shard.numel() for shard in shards):
                norms = torch.cat([shard.detach().norm(dim=1) for shard in shards])
                self._writer.add_scalar(f"embedding_norm/{module}/{name.split('.')[-2]}", float(norms.mean()), step)

    def close(self) -> None:
        """Writes pending entries and closes the folder."""
        if self._writer is not None:
            self._writer.close()
