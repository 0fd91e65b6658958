"""The embedding look-ups of a batch, apart from the rest of the model, which may run in micro-batches.

Shapes: B rows of a batch, F features, T events of all rows, D embedding width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchrec import JaggedTensor

from recsys.data.batch import Batch, events_of
from recsys.nn.embeddings import Embeddings
from recsys.nn.linear_part import FixedEmbeddings

Output = Tensor | dict[str, JaggedTensor]


class EmbeddingLookups(nn.Module):
    """The embedding look-ups of a model in training, without the rest of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        looked_up = (m for m in model.modules() if isinstance(m, Embeddings) and not isinstance(m, FixedEmbeddings))
        self.embeddings = nn.ModuleList(looked_up)

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
        self._indices: list[Tensor | None] = []  # rows of each micro-batch; None for all

    @property
    def pooled(self) -> list[Tensor] | None:
        """The outputs, if each is a [B, F * D] tensor: then the number of rows determines every shape."""
        outputs = [output for output in self._outputs if isinstance(output, Tensor)]
        return outputs if len(outputs) == len(self._outputs) else None

    def clear(self) -> None:
        """Discards the gradients so far."""
        self._leaves, self._indices = [], []

    @contextmanager
    def given(self, index: Tensor | None = None) -> Iterator[None]:
        """Context manager in which the modules return the embeddings of the rows of a [b] index, or of all rows."""
        leaves: list[Tensor] = []
        outputs = [_as_leaves(o if index is None else _take(o, index), leaves) for o in self._outputs]
        self._leaves.append(leaves)
        self._indices.append(index)
        with self.given_outputs(outputs):
            yield

    def use_leaves(self, leaves: list[Tensor]) -> None:
        """Takes the gradients of the whole batch from leaves that have them."""
        self._leaves, self._indices = [leaves], [None]

    @contextmanager
    def given_outputs(self, outputs: Sequence[Output]) -> Iterator[None]:
        """Context manager in which the modules return the given outputs."""
        for module, output in zip(self._modules, outputs, strict=True):
            module.given = output
        try:
            yield
        finally:
            for module in self._modules:
                module.given = None

    def backward(self, n_processes: int, is_finite: Tensor) -> None:
        """Propagates the gradients of all micro-batches to the tables, which divide them by the number of processes.

        Args:
            n_processes: number of processes.
            is_finite: [] bool; if it is false, the tables get gradients of zero.
        """
        embeddings, gradients = [], []
        places = [self._places(index) for index in self._indices]
        for number, (tensor, *leaves) in enumerate(zip(self._tensors, *self._leaves, strict=True)):
            if not tensor.requires_grad:  # output of a module without features
                continue
            embeddings.append(tensor)
            gradient = _zeros_unless(is_finite, _sum(tensor, leaves, [of_part[number] for of_part in places]))
            gradients.append(gradient if n_processes == 1 else gradient * n_processes)
        if embeddings:
            torch.autograd.backward(embeddings, gradients)

    def _places(self, index: Tensor | None) -> list[Tensor | None]:
        """For each of the tensors, the positions of the rows of an index in it."""
        places: list[Tensor | None] = []
        for output in self._outputs:
            if isinstance(output, Tensor) or index is None:
                places += [index] * len(_tensors(output))
            else:
                places += [events_of(jagged.offsets(), index)[0] for jagged in output.values()]
        return places


def _sum(tensor: Tensor, leaves: list[Tensor], places: list[Tensor | None]) -> Tensor:
    """The gradient of a tensor, given the leaves that are its values at some places; None for all of them."""
    if places == [None]:
        return torch.zeros_like(leaves[0]) if leaves[0].grad is None else leaves[0].grad
    gradient = torch.zeros_like(tensor)
    for leaf, place in zip(leaves, places, strict=True):
        if leaf.grad is not None:
            gradient[place] = leaf.grad
    return gradient


def _zeros_unless(is_finite: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, or zeros; only a CPU, which has nothing to wait for, looks before it writes."""
    if gradient.device.type == "cpu":
        return gradient if is_finite else torch.zeros_like(gradient)
    return gradient.masked_fill_(~is_finite, 0.0)


def _tensors(output: Output) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [jagged.values() for jagged in output.values()]


def _take(output: Output, index: Tensor) -> Output:
    """The rows of an index of an output."""
    if isinstance(output, Tensor):
        return output[index]
    taken = {}
    for name, jagged in output.items():
        position, lengths = events_of(jagged.offsets(), index)
        taken[name] = JaggedTensor(values=jagged.values()[position], lengths=lengths.to(jagged.lengths().dtype))
    return taken


def _as_leaves(output: Output, leaves: list[Tensor]) -> Output:
    """The same values as new autograd leaves, which are appended to `leaves`."""

    def new_leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    if isinstance(output, Tensor):
        return new_leaf(output)
    return {
        name: JaggedTensor(values=new_leaf(jagged.values()), lengths=jagged.lengths())
        for name, jagged in output.items()
    }
