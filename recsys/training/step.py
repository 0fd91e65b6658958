"""One update: ids are looked up for the whole batch, the rest of the model works through it in micro-batches.

Embedding tables may live on other processes, and fused ones update themselves in the backward pass. Both happen once a
step this way, with the gradient of the whole batch, whatever the number of micro-batches. In between no process talks
to another, so that each may need another number of them.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
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
    """A batch does not fit the device, in however many parts."""


class LookUps(nn.Module):
    """The look-ups of a model by themselves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(module for module in model.modules() if isinstance(module, Embeddings))

    def forward(self, batch: Batch) -> list[Output]:
        """What each of the model's Embeddings gives for a batch."""
        return [cast(Embeddings[Any], module).look_up(batch) for module in self.embeddings]


class LookedUp:
    """The embeddings of a batch, cut off from the tables so that the rest of the model can be gone through in parts."""

    def __init__(self, look_ups: LookUps, batch: Batch) -> None:
        self._modules = [cast(Embeddings[Any], module) for module in look_ups.embeddings]
        self._outputs: list[Output] = look_ups(batch)
        self._tensors = [tensor for output in self._outputs for tensor in _tensors(output)]
        self._parts: list[list[Tensor]] = []

    def clear(self) -> None:
        """Forgets the gradients so far."""
        self._parts = []

    @contextmanager
    def given(self, start: int, length: int) -> Iterator[None]:
        """Inside the block the modules give the embeddings of the rows start .. start + length."""
        leaves: list[Tensor] = []
        for module, output in zip(self._modules, self._outputs, strict=True):
            module.given = _narrow(output, start, length, leaves)
        self._parts.append(leaves)
        try:
            yield
        finally:
            for module in self._modules:
                module.given = None

    def backward(self, n_processes: int) -> None:
        """Takes the gradients of all parts on to the tables, which divide them by the number of processes."""
        looked_up, gradients = [], []
        for tensor, *leaves in zip(self._tensors, *self._parts, strict=True):
            if not tensor.requires_grad:  # of a module without any feature
                continue
            looked_up.append(tensor)
            parts = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            gradients.append(whole if n_processes == 1 else whole * n_processes)
        if looked_up:
            torch.autograd.backward(looked_up, gradients)


def _tensors(output: Output) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [jagged.values() for jagged in output.values()]


def _narrow(output: Output, start: int, length: int, leaves: list[Tensor]) -> Output:
    """A part of an output on leaves of its own, which are added to `leaves`."""

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    if isinstance(output, Tensor):
        return leaf(output[start : start + length])
    parts = {}
    for name, jagged in output.items():
        offsets = jagged.offsets()
        values = jagged.values()[int(offsets[start]) : int(offsets[start + length])]
        parts[name] = JaggedTensor(values=leaf(values), lengths=jagged.lengths()[start : start + length])
    return parts


class _LossOf(nn.Module):
    """The gradients of some rows, as one module: mixed weights stay in place until the backward pass is done with them,
    which computes checkpointed activations anew."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, n_rows: int) -> Tensor:
        """The losses' sum over `n_rows`; leaves gradients. Rows that are not real count for nothing."""
        losses = self.objective(batch)
        loss: Tensor = torch.where(batch.is_real, losses, 0.0).sum() / n_rows
        loss.backward()
        return loss.detach()


class Step:
    """Gradients of a batch: `dense_step`, then `table_step`.

    Args:
        objective: the losses of a model with its tables sharded.
        mixout: mixes the model's weights, or not.
        precision: of the matrix products; `bf16` gives way to `fp32` where the loss or a gradient is not finite.
        micro_batches: parts to begin with; doubled when memory runs out.
        world: the processes.
    """

    def __init__(
        self, objective: Objective, mixout: Mixout, precision: Precision, micro_batches: int, world: World
    ) -> None:
        model = objective.model
        self._loss_of, self._mixout, self._world = _LossOf(objective), mixout, world
        self._may_split = not (objective.uses_collectives and world.size > 1)
        self.precision, self.micro_batches = precision, micro_batches
        self.look_ups = LookUps(model)
        inside = {id(p) for p in self.look_ups.parameters()}
        self._dense = [p for p in model.parameters() if id(p) not in inside]
        plain = [module for module in self.look_ups.modules() if isinstance(module, EmbeddingCollection)]
        self._copied = [parameter for module in plain for parameter in module.parameters()]

    def dense_step(self, batch: Batch, n_rows: int) -> tuple[Tensor, LookedUp]:
        """Leaves the gradients of the mean loss in the dense parameters.

        Args:
            batch: this process's rows of the batch.
            n_rows: rows of the batch on all processes.

        Returns:
            The mean loss over all processes' rows, and what `table_step` continues from.

        Raises:
            InputError: when the loss or its gradients are not finite even in fp32; no table was updated then.
        """
        try:
            with autocast(self._world.device, self.precision):
                looked_up = LookedUp(self.look_ups, batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                "the embeddings of a batch do not fit the device: lower trainer.batch_size"
            ) from error
        loss = self._through_dense(batch, looked_up, n_rows)
        if not self._is_finite(loss) and self.precision == "bf16":
            console.print("[yellow]the loss is not finite in bf16: fp32 from here on[/yellow]")
            self.precision = "fp32"
            loss = self._through_dense(batch, looked_up, n_rows)
        if not self._is_finite(loss):
            raise InputError(
                f"the loss is {float(loss)}, or a gradient is not finite, in fp32 too: lower trainer.learning_rate, "
                "or look for extreme numbers in the data"
            )
        return loss, looked_up

    def table_step(self, looked_up: LookedUp) -> None:
        """Leaves gradients in the tables; fused ones are updated."""
        looked_up.backward(self._world.size)
        for parameter in self._copied:  # TorchRec does this for the tables that it holds
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._world.all_reduce(parameter.grad).div_(self._world.size)

    def _through_dense(self, batch: Batch, looked_up: LookedUp, n_rows: int) -> Tensor:
        """The mean loss; its gradients are left in `looked_up` and, summed over processes, in the dense parameters."""
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
            self._split_further(len(batch))
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

    def _accumulate(self, batch: Batch, looked_up: LookedUp, n_rows: int) -> Tensor:
        total = torch.zeros((), device=self._world.device)
        bounds = [len(batch) * part // self.micro_batches for part in range(self.micro_batches + 1)]
        for start, stop in itertools.pairwise(bounds):
            part = batch if self.micro_batches == 1 else batch.narrow(start, stop - start)
            with autocast(self._world.device, self.precision), looked_up.given(start, stop - start):
                mixed = {f"objective.model.{name}": weight for name, weight in self._mixout.weights().items()}
                total += functional_call(self._loss_of, mixed, (part, n_rows))
        return total

    def _split_further(self, n_rows: int) -> None:
        if not self._may_split:  # the other processes would wait for a part that they do not have
            raise OutOfMemoryError(
                "a batch does not fit the device, and processes that exchange negatives must split it alike: lower "
                "trainer.batch_size, or raise trainer.micro_batches"
            )
        if self.micro_batches >= n_rows:
            raise OutOfMemoryError("one row does not fit the device's memory: make the model smaller")
        if self._world.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batches *= 2
        console.print(f"[yellow]out of memory: each batch in {self.micro_batches} parts from here on[/yellow]")

    def _is_finite(self, loss: Tensor) -> bool:
        """Whether the loss and the dense part's gradients are; every process finds the same."""
        norm = nn.utils.get_total_norm([p.grad for p in self._dense if p.grad is not None])
        return bool(torch.isfinite(loss + norm))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
