"""One training step: one look-up of the whole batch, then the rest of the model in micro-batches.

Embedding tables may be on other processes, and the backward pass updates fused tables. The exchange and the update
happen once per step, with the gradient of the whole batch, for any number of micro-batches. The micro-batches need no
communication, so the processes may use different numbers of them.

The host does not wait for the device in a step: a batch whose loss or gradients are not finite changes no weight, and
the host learns of it later, from `Step.settle`.

Shapes: B rows of a batch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchrec import EmbeddingCollection

from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.linear_part import fixed_parameters
from recsys.nn.precision import Precision, autocast
from recsys.nn.traits import has_fixed_shapes
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.task import Objective
from recsys.training.update.compiled import Compiled, uses_graphs
from recsys.training.update.finite import DivergenceError, FiniteBatches
from recsys.training.update.graphs import DenseGraphs
from recsys.training.update.lookups import DetachedEmbeddings, EmbeddingLookups
from recsys.training.update.mixout import Mixout


class OutOfMemoryError(InputError):
    """A batch does not fit in the device's memory, for any allowed number of micro-batches."""


class _ForwardBackward(nn.Module):
    """Forward and backward pass of a micro-batch in one module: mixed weights must stay in place during the backward
    pass, which recomputes checkpointed activations."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.compiled: Compiled | None = None

    def forward(self, batch: Batch, n_rows: int) -> Tensor:
        """Sum of the weighted losses of real rows, divided by `n_rows`; accumulates gradients."""
        losses = self.objective(batch) if self.compiled is None else self.compiled(batch)
        if batch.weight is not None:
            losses = losses * batch.weight
        loss: Tensor = torch.where(batch.is_real, losses, 0.0).sum() / n_rows
        loss.backward()
        return loss.detach()


class Step:
    """Computes the gradients of a batch: `dense_step`, then `table_step`.

    Args:
        objective: the losses of a model with sharded tables.
        mixout: mixes the model's weights; may be disabled.
        precision: precision of the matrix products; falls back from bf16 to fp32 if the loss or a gradient is not
            finite.
        micro_batches: initial number of micro-batches per batch; doubled when memory runs out.
        world: the processes.
        n_compiled_rows: rows of the batches that compiled kernels compute, and CUDA graphs where the model's shapes are
            fixed; None for none.
    """

    def __init__(
        self,
        objective: Objective,
        mixout: Mixout,
        precision: Precision,
        micro_batches: int,
        world: World,
        n_compiled_rows: int | None = None,
    ) -> None:
        model = objective.model
        self._forward_backward, self._mixout, self._world = _ForwardBackward(objective), mixout, world
        self._may_split = not (objective.uses_collectives and world.size > 1)
        self.precision, self.micro_batches = precision, micro_batches
        self.look_ups = EmbeddingLookups(model)
        self.finite = FiniteBatches(model, world.device)
        in_tables = {id(p) for p in self.look_ups.parameters()} | fixed_parameters(model)
        self._dense = [p for p in model.parameters() if id(p) not in in_tables]
        replicated = [module for module in self.look_ups.modules() if isinstance(module, EmbeddingCollection)]
        self._graphs: DenseGraphs | None = None
        if n_compiled_rows is not None and not mixout.anchors:
            self._forward_backward.compiled = Compiled(objective, n_compiled_rows)
        if n_compiled_rows is not None and uses_graphs(world) and has_fixed_shapes(model):
            self._graphs = DenseGraphs(self._forward_and_backward, self._dense)
        self._replicated = [parameter for module in replicated for parameter in module.parameters()]

    def dense_step(self, batch: Batch, n_rows: int) -> tuple[Tensor, DetachedEmbeddings]:
        """Computes the gradients of the mean loss in the dense parameters.

        Args:
            batch: this process's rows of the batch.
            n_rows: rows of the batch over all processes.

        Returns:
            The mean loss over the rows of all processes, and the input of `table_step`.
        """
        fix = "the embeddings of a batch do not fit in the device's memory: lower trainer.batch_size"
        with explained_out_of_memory(fix), autocast(self._world.device, self.precision):
            looked_up = DetachedEmbeddings(self.look_ups, batch)
        loss = self._run_dense(batch, looked_up, n_rows)
        norm = nn.utils.get_total_norm([p.grad for p in self._dense if p.grad is not None])
        self.finite.judge(loss + norm)  # the same on every process
        return loss, looked_up

    def table_step(self, looked_up: DetachedEmbeddings) -> None:
        """Computes the gradients of the tables; updates fused tables."""
        looked_up.backward(self._world.size, self.finite.is_finite)
        for parameter in self._replicated:  # TorchRec averages the gradients of its own tables
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._world.all_reduce(parameter.grad).div_(self._world.size)

    def settle(self, n_bad: int) -> None:
        """Takes note of the batches that were not finite since the last call: training continues in fp32.

        Raises:
            DivergenceError: if they were not finite even in fp32; they changed no weight.
        """
        self.finite.settle(n_bad)
        if not n_bad:
            return
        if self.precision == "fp32":
            raise DivergenceError(f"the loss or a gradient of {n_bad} batches is not finite, even in fp32")
        console.print(
            f"the loss or a gradient of {n_bad} batches is not finite in bf16: these batches changed nothing, and "
            "training continues in fp32",
            style="yellow",
        )
        self.precision = "fp32"

    def _run_dense(self, batch: Batch, looked_up: DetachedEmbeddings, n_rows: int) -> Tensor:
        """Mean loss. Its gradients are stored in `looked_up` and, summed over processes, in the dense parameters."""
        while True:
            looked_up.clear()
            for parameter in self._dense:
                parameter.grad = None
            try:
                loss = self._accumulate(batch, looked_up, n_rows)
                break
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            self._double_micro_batches(len(batch))
        if self._world.size > 1:
            for parameter in self._dense:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            flat = torch.cat([loss.view(1), *[p.grad.view(-1) for p in self._dense if p.grad is not None]])
            self._world.all_reduce(flat)
            loss, start = flat[0], 1
            for parameter in self._dense:
                parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()
        return loss

    def _accumulate(self, batch: Batch, looked_up: DetachedEmbeddings, n_rows: int) -> Tensor:
        n_parts = min(self.micro_batches, max(1, len(batch)))
        if n_parts == 1:
            loss = None if self._graphs is None else self._graphs.run(batch, looked_up, n_rows, self.precision)
            if loss is None:
                loss = self._forward_and_backward(batch, looked_up.given, n_rows)
            return loss
        total = torch.zeros((), device=self._world.device)
        for part in range(n_parts):
            # every n-th row, not runs of rows: a batch is in file order, and a file may be sorted, even by label
            index = torch.arange(part, len(batch), n_parts, device=batch.dense.device)
            total += self._forward_and_backward(batch.take(index), partial(looked_up.given, index), n_rows)
        return total

    def _forward_and_backward(
        self, batch: Batch, embeddings: Callable[[], AbstractContextManager[None]], n_rows: int
    ) -> Tensor:
        """Loss of a micro-batch; its gradients are added to those of the parameters and the embeddings."""
        with autocast(self._world.device, self.precision), embeddings():
            if not self._mixout.anchors:
                return cast(Tensor, self._forward_backward(batch, n_rows))
            mixed_weights = {f"objective.model.{name}": weight for name, weight in self._mixout.weights().items()}
            return functional_call(self._forward_backward, mixed_weights, (batch, n_rows))

    def _double_micro_batches(self, n_rows: int) -> None:
        if not self._may_split:  # the other processes would not join the additional collectives
            raise OutOfMemoryError(
                "a batch does not fit in the device's memory, and processes that exchange negatives must use "
                "the same number of micro-batches: lower trainer.batch_size, or raise trainer.micro_batches"
            )
        if self.micro_batches >= n_rows:
            raise OutOfMemoryError("one row does not fit in the device's memory: use a smaller model")
        if self._world.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batches *= 2
        console.print(f"out of memory: now {self.micro_batches} micro-batches per batch", style="yellow")


@contextmanager
def explained_out_of_memory(message: str) -> Iterator[None]:
    """Context manager that replaces torch's error for missing memory by an OutOfMemoryError with a message."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(message) from error


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
