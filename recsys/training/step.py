"""One training step: one look-up of the whole batch, then the rest of the model in micro-batches.

Embedding tables may be on other processes, and the backward pass updates fused tables. The exchange and the update
happen once per step, with the gradient of the whole batch, for any number of micro-batches. The micro-batches need no
communication, so the processes may use different numbers of them.

Shapes: B rows of a batch, F features, T events of all rows, D embedding width.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.func import functional_call
from torchrec import EmbeddingCollection, JaggedTensor

from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.embeddings import Embeddings
from recsys.nn.precision import Precision, autocast
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.mixout import Mixout
from recsys.training.task import Objective

Output = Tensor | dict[str, JaggedTensor]


class OutOfMemoryError(InputError):
    """A batch does not fit in the device's memory, for any allowed number of micro-batches."""


class DivergenceError(InputError):
    """The loss, a weight or a score is not finite: training diverged."""

    def __init__(self, problem: str, setting: str = "trainer.learning_rate") -> None:
        super().__init__(f"{problem}: lower {setting} or check the data for extreme values")


def check_weights(tensors: Mapping[str, Any], world: World) -> None:
    """Checks the weights after the last step of an epoch: no later step computes a loss with them.

    Args:
        tensors: tensors by name; every process passes its shards of sharded tensors.
        world: the processes, all of which must call this function.

    Raises:
        DivergenceError: if a weight is not finite, on any process.
    """
    n_wrong = torch.zeros((), device=world.device)
    for value in tensors.values():
        for tensor in [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]:
            if tensor.is_floating_point() and tensor.numel():
                low, high = tensor.detach().aminmax()  # NaN if any value is; allocates nothing of a table's size
                n_wrong += ~(low.isfinite() & high.isfinite()).to(world.device)
    if world.all_reduce(n_wrong) > 0:
        raise DivergenceError("a weight is not finite after the last step, so the loss is not finite")


def check_scores(scores: np.ndarray, setting: str = "trainer.learning_rate") -> np.ndarray:
    """Returns scores or vectors if all are finite.

    Args:
        scores: any numbers that a model computed.
        setting: the learning rate to lower.

    Raises:
        DivergenceError: if one is not.
    """
    if not np.isfinite(scores).all():
        raise DivergenceError("a score is not finite after the last step, so the loss is not finite", setting)
    return scores


class EmbeddingLookups(nn.Module):
    """The embedding look-ups of a model, without the rest of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(module for module in model.modules() if isinstance(module, Embeddings))

    def forward(self, batch: Batch) -> list[Output]:
        """Outputs of the model's `Embeddings` for a batch: [B, F * D] tensors or jagged [T, D] tensors by feature."""
        return [cast(Embeddings[Any], module).look_up(batch) for module in self.embeddings]


class DetachedEmbeddings:
    """The embeddings of a batch, detached from the tables, so that the rest of the model can run in micro-batches."""

    def __init__(self, look_ups: EmbeddingLookups, batch: Batch) -> None:
        self._modules = [cast(Embeddings[Any], module) for module in look_ups.embeddings]
        self._outputs: list[Output] = look_ups(batch)
        self._tensors = [tensor for output in self._outputs for tensor in _tensors(output)]
        self._leaves: list[list[Tensor]] = []  # detached embeddings of each micro-batch

    def clear(self) -> None:
        """Discards the gradients so far."""
        self._leaves = []

    @contextmanager
    def given(self, start: int, length: int) -> Iterator[None]:
        """Context manager in which the modules return the embeddings of the rows start .. start + length."""
        leaves: list[Tensor] = []
        for module, output in zip(self._modules, self._outputs, strict=True):
            module.given = _narrow(output, start, length, leaves)
        self._leaves.append(leaves)
        try:
            yield
        finally:
            for module in self._modules:
                module.given = None

    def backward(self, n_processes: int) -> None:
        """Propagates the gradients of all micro-batches to the tables, which divide them by the number of processes."""
        embeddings, gradients = [], []
        for tensor, *leaves in zip(self._tensors, *self._leaves, strict=True):
            if not tensor.requires_grad:  # output of a module without features
                continue
            embeddings.append(tensor)
            leaf_gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
            gradient = leaf_gradients[0] if len(leaf_gradients) == 1 else torch.cat(leaf_gradients)
            gradients.append(gradient if n_processes == 1 else gradient * n_processes)
        if embeddings:
            torch.autograd.backward(embeddings, gradients)


def _tensors(output: Output) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [jagged.values() for jagged in output.values()]


def _narrow(output: Output, start: int, length: int, leaves: list[Tensor]) -> Output:
    """The rows start .. start + length of an output, as new autograd leaves, which are appended to `leaves`."""

    def new_leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    if isinstance(output, Tensor):
        return new_leaf(output[start : start + length])
    narrowed = {}
    for name, jagged in output.items():
        offsets = jagged.offsets()
        values = jagged.values()[int(offsets[start]) : int(offsets[start + length])]
        narrowed[name] = JaggedTensor(values=new_leaf(values), lengths=jagged.lengths()[start : start + length])
    return narrowed


class _ForwardBackward(nn.Module):
    """Forward and backward pass of a micro-batch in one module: mixed weights must stay in place during the backward
    pass, which recomputes checkpointed activations."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, n_rows: int) -> Tensor:
        """Sum of the weighted losses of real rows, divided by `n_rows`; accumulates gradients."""
        losses = self.objective(batch)
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
    """

    def __init__(
        self, objective: Objective, mixout: Mixout, precision: Precision, micro_batches: int, world: World
    ) -> None:
        model = objective.model
        self._forward_backward, self._mixout, self._world = _ForwardBackward(objective), mixout, world
        self._may_split = not (objective.uses_collectives and world.size > 1)
        self.precision, self.micro_batches = precision, micro_batches
        self.look_ups = EmbeddingLookups(model)
        in_tables = {id(p) for p in self.look_ups.parameters()}
        self._dense = [p for p in model.parameters() if id(p) not in in_tables]
        replicated = [module for module in self.look_ups.modules() if isinstance(module, EmbeddingCollection)]
        self._replicated = [parameter for module in replicated for parameter in module.parameters()]

    def dense_step(self, batch: Batch, n_rows: int) -> tuple[Tensor, DetachedEmbeddings]:
        """Computes the gradients of the mean loss in the dense parameters.

        Args:
            batch: this process's rows of the batch.
            n_rows: rows of the batch over all processes.

        Returns:
            The mean loss over the rows of all processes, and the input of `table_step`.

        Raises:
            DivergenceError: if the loss or its gradients are not finite even in fp32; no table is updated then.
        """
        fix = "the embeddings of a batch do not fit in the device's memory: lower trainer.batch_size"
        with explained_out_of_memory(fix), autocast(self._world.device, self.precision):
            looked_up = DetachedEmbeddings(self.look_ups, batch)
        loss = self._run_dense(batch, looked_up, n_rows)
        if not self._is_finite(loss) and self.precision == "bf16":
            console.print("the loss is not finite in bf16: training continues in fp32", style="yellow")
            self.precision = "fp32"
            loss = self._run_dense(batch, looked_up, n_rows)
        if not self._is_finite(loss):
            raise DivergenceError(f"the loss is {float(loss)} or a gradient is not finite, even in fp32")
        return loss, looked_up

    def table_step(self, looked_up: DetachedEmbeddings) -> None:
        """Computes the gradients of the tables; updates fused tables."""
        looked_up.backward(self._world.size)
        for parameter in self._replicated:  # TorchRec averages the gradients of its own tables
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._world.all_reduce(parameter.grad).div_(self._world.size)

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
        total = torch.zeros((), device=self._world.device)
        n_parts = min(self.micro_batches, max(1, len(batch)))
        bounds = [len(batch) * index // n_parts for index in range(n_parts + 1)]
        for start, stop in itertools.pairwise(bounds):
            micro_batch = batch if n_parts == 1 else batch.narrow(start, stop - start)
            with autocast(self._world.device, self.precision), looked_up.given(start, stop - start):
                mixed_weights = {f"objective.model.{name}": weight for name, weight in self._mixout.weights().items()}
                total += functional_call(self._forward_backward, mixed_weights, (micro_batch, n_rows))
        return total

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

    def _is_finite(self, loss: Tensor) -> bool:
        """Whether the loss and the dense gradients are finite; the result is the same on every process."""
        norm = nn.utils.get_total_norm([p.grad for p in self._dense if p.grad is not None])
        return bool(torch.isfinite(loss + norm))


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
