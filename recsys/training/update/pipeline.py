"""Runs the updates of an epoch: several processes by TorchRec's pipeline, a single one without its exchanges."""

from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.data.batch import Batch
from recsys.system.world import World
from recsys.training.update.lookups import DetachedEmbeddings
from recsys.training.update.optimizers import Optimizers
from recsys.training.update.step import Step


class Pipeline(Protocol):
    """Runs a step and an update for each batch of an iterator."""

    def run(self, batches: Iterator[Batch], n_rows: int) -> Tensor:
        """Runs one update and returns the mean loss of its batch.

        Args:
            batches: this process's batches; some are read ahead.
            n_rows: rows of this batch over all processes.

        Raises:
            StopIteration: if no batch is left.
        """

    def detach(self) -> None:
        """Leaves the model as it is without the pipeline; call it after the last batch of an epoch."""


def build_pipeline(step: Step, optimizers: Optimizers, world: World) -> Pipeline:
    """Builds the pipeline of the processes.

    Args:
        step: computes the gradients of a batch.
        optimizers: apply the gradients.
        world: the processes.
    """
    return LocalPipeline(step, optimizers, world) if world.size == 1 else SparsePipeline(step, optimizers, world)


class LocalPipeline:
    """The updates of a single process: makes or copies the next batch while the device computes the current one."""

    def __init__(self, step: Step, optimizers: Optimizers, world: World) -> None:
        self._step, self._optimizers, self._device = step, optimizers, world.device
        is_gpu = world.device.type == "cuda"
        self._stream = torch.cuda.Stream(world.device) if is_gpu else None
        self._next: Batch | None = None

    def run(self, batches: Iterator[Batch], n_rows: int) -> Tensor:
        """See `Pipeline`."""
        batch = self._next if self._next is not None else self._read(batches)
        self._next = None
        if batch is None:
            raise StopIteration
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
            batch.record_stream(torch.cuda.current_stream())
        self._optimizers.zero_grad()
        loss, looked_up = self._step.dense_step(batch, n_rows)
        if self._stream is not None:
            self._next = self._read(batches)
        self._step.table_step(looked_up)
        self._optimizers.is_finite = self._step.finite.is_finite
        self._optimizers.step()
        return loss

    def _read(self, batches: Iterator[Batch]) -> Batch | None:
        """Returns the next batch on the device, whose work is queued on the pipeline's own stream; None at the end."""
        if self._stream is None:
            return next(batches, None)
        with torch.cuda.stream(self._stream):
            batch = next(batches, None)
            return None if batch is None else batch.to(self._device, non_blocking=True)

    def detach(self) -> None:
        """See `Pipeline`."""
        self._next = None


class SparsePipeline(TrainPipelineSparseDist[Batch, Tensor]):
    """The updates of several processes: copies the next batch and exchanges its ids during the current one.

    On a CPU nothing overlaps: the stages run one after another.
    """

    def __init__(self, step: Step, optimizers: Optimizers, world: World) -> None:
        self._step, self._updates, self._n_rows = step, optimizers, 0
        self._looked_up: DetachedEmbeddings | None = None
        optimizer = cast(torch.optim.Optimizer, optimizers)
        super().__init__(step.look_ups, optimizer, world.device, pipeline_postproc=True, custom_model_fwd=self._forward)

    def run(self, batches: Iterator[Batch], n_rows: int) -> Tensor:
        """See `Pipeline`."""
        self._n_rows = n_rows
        return cast(Tensor, self.progress(batches))

    def detach(self) -> nn.Module:
        """See `Pipeline`. TorchRec before 1.8 puts a nested postprocessing module back under a wrong name."""
        model = super().detach()
        for processor in self._pipelined_postprocs:
            parent, _, name = processor.fqn.rpartition(".")
            setattr(model.get_submodule(parent), name, processor.postproc_module)
        return model

    def _forward(self, batch: Batch | None) -> tuple[Tensor, Tensor]:
        assert batch is not None
        loss, self._looked_up = self._step.dense_step(batch, self._n_rows)
        return loss, loss

    def _backward(self, losses: Tensor) -> None:
        """Backward pass of the tables; `_forward` includes that of the dense part, in micro-batches."""
        assert self._looked_up is not None
        self._step.table_step(self._looked_up)
        self._looked_up = None
        self._updates.is_finite = self._step.finite.is_finite
