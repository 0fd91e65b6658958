"""TorchRec's training pipeline: copies the next batch and exchanges its ids during the step of the current batch."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.data.batch import Batch
from recsys.training.optimizers import Optimizers
from recsys.training.step import DetachedEmbeddings, Step


class Pipeline(TrainPipelineSparseDist[Batch, Tensor]):
    """Runs a step and an update for each batch of an iterator.

    On a CPU nothing overlaps: the stages run one after another.

    Args:
        step: computes the gradients of a batch.
        optimizers: apply the gradients.
        device: the device of the model.
    """

    def __init__(self, step: Step, optimizers: Optimizers, device: torch.device) -> None:
        self._step, self._n_rows = step, 0
        self._looked_up: DetachedEmbeddings | None = None
        super().__init__(step.look_ups, optimizers, device, pipeline_postproc=True, custom_model_fwd=self._forward)

    def run(self, batches: Iterator[Batch], n_rows: int) -> Tensor:
        """Runs one update and returns the mean loss of its batch.

        Args:
            batches: this process's batches; read two ahead.
            n_rows: rows of this batch over all processes.

        Raises:
            StopIteration: if no batch is left.
        """
        self._n_rows = n_rows
        return cast(Tensor, self.progress(batches))

    def _forward(self, batch: Batch | None) -> tuple[Tensor, Tensor]:
        assert batch is not None
        loss, self._looked_up = self._step.dense_step(batch, self._n_rows)
        return loss, loss

    def _backward(self, losses: Tensor) -> None:
        """Backward pass of the tables; `_forward` includes that of the dense part, in micro-batches."""
        assert self._looked_up is not None
        self._step.table_step(self._looked_up)
        self._looked_up = None
