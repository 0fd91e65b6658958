"""What training shows in TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.utils.tensorboard import SummaryWriter

from recsys.evaluation.logits import probability


class Log:
    """A TensorBoard folder, or nothing.

    Args:
        folder: where to write; None drops what is logged (on all processes but one).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._writer = SummaryWriter(str(folder)) if folder is not None else None

    def forget_after(self, step: int) -> None:
        """Hides what a killed run logged beyond the step that this one resumes at."""
        if self._writer is not None:
            self._writer.close()
            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One number."""
        if self._writer is not None:
            self._writer.add_scalar(tag, value, step)

    def curves(self, tag: str, label: np.ndarray, logit: np.ndarray, step: int) -> None:
        """The precision-recall curve of [n] labels and logits.

        Thresholds are ranks: at a base rate of 2 % those of probabilities would all lie in the first of a hundred bins.
        """
        if self._writer is not None:
            p = probability(logit)
            rank = np.searchsorted(np.sort(p), p, side="right") / len(p)
            self._writer.add_pr_curve(tag, label, rank, step, num_thresholds=255)

    def table_norms(self, module: str, tables: Mapping[str, Any], step: int) -> None:
        """The mean length of each embedding table's rows; of a sharded one, of this process's."""
        if self._writer is None:
            return
        for name, value in tables.items():
            parts = [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]
            if parts and sum(part.numel() for part in parts):
                norms = torch.cat([part.detach().norm(dim=1) for part in parts])
                self._writer.add_scalar(f"embedding_norm/{module}/{name.split('.')[-2]}", float(norms.mean()), step)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()
