"""CUDA graphs of the dense part: the host starts hundreds of kernels at once, for batches of a size that repeats.

Shapes: B rows of a batch, F features, D embedding width.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.system.progress import console
from recsys.training.update.lookups import DetachedEmbeddings

_RUNS_BEFORE_CAPTURE = 3
Key = tuple[object, ...]
Compute = Callable[[Batch, Callable[[], AbstractContextManager[None]], int], Tensor]
"""Forward and backward pass: (batch, context with its embeddings, rows of the batch over all processes) to the loss."""


@dataclass(frozen=True)
class _Graph:
    """A recorded forward and backward pass, which reads and writes the same memory in every run."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    leaves: list[Tensor]
    """[B, F * D] embeddings; their `grad` is written."""
    gradients: list[Tensor | None]
    """Of the dense parameters."""
    loss: Tensor


class DenseGraphs:
    """Runs the forward and backward pass of a batch as a CUDA graph, from the fourth batch of the same size on.

    A graph's kernels have fixed shapes. The embeddings are looked up outside of it, and the tables are updated outside:
    fbgemm takes the learning rate of fused tables from the host.

    Args:
        compute: the forward and backward pass of a batch.
        dense: the parameters whose gradients it computes.
    """

    def __init__(self, compute: Compute, dense: Sequence[nn.Parameter]) -> None:
        self._compute, self._dense = compute, list(dense)
        self._n_runs: dict[Key, int] = {}
        self._graphs: dict[Key, _Graph] = {}
        self._is_on = True

    def run(self, batch: Batch, looked_up: DetachedEmbeddings, n_rows: int, *settings: object) -> Tensor | None:
        """Computes loss and gradients of a batch; None if the caller is to compute them, without a graph.

        Args:
            batch: this process's rows.
            looked_up: their embeddings.
            n_rows: rows of the batch over all processes.
            settings: what else the kernels depend on.
        """
        pooled = looked_up.pooled
        if not self._is_on or pooled is None:
            return None
        key = (len(batch), n_rows, batch.weight is None, *settings)
        self._n_runs[key] = self._n_runs.get(key, 0) + 1
        if self._n_runs[key] <= _RUNS_BEFORE_CAPTURE:
            return None
        if key not in self._graphs:
            try:
                self._graphs[key] = self._record(batch, pooled, looked_up, n_rows)
            except RuntimeError as error:
                _report(error)
                self._is_on, self._graphs = False, {}
                for parameter in self._dense:
                    parameter.grad = None
                return None
        graph = self._graphs[key]
        _copy(batch, graph.batch)
        torch._foreach_copy_([leaf.detach() for leaf in graph.leaves], [output.detach() for output in pooled])
        graph.graph.replay()
        for parameter, gradient in zip(self._dense, graph.gradients, strict=True):
            parameter.grad = gradient
        looked_up.use_leaves(graph.leaves)
        return graph.loss

    def _record(self, batch: Batch, pooled: list[Tensor], looked_up: DetachedEmbeddings, n_rows: int) -> _Graph:
        none = KeyedJaggedTensor.empty(torch.int32, lengths_dtype=torch.int32, device=batch.dense.device)
        static = Batch(
            dense=batch.dense.clone(),
            sparse=none,  # the look-ups have read them
            sequences=none,
            label=batch.label.clone(),
            row=batch.row.clone(),
            is_real=batch.is_real.clone(),
            n_rows=batch.n_rows,
            weight=None if batch.weight is None else batch.weight.clone(),
        )
        leaves = [output.detach().clone().requires_grad_() for output in pooled]
        for parameter in self._dense:
            parameter.grad = None
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may pin batches
            loss = self._compute(static, lambda: looked_up.given_outputs(leaves), n_rows)
        return _Graph(graph, static, leaves, [parameter.grad for parameter in self._dense], loss)


def _copy(batch: Batch, static: Batch) -> None:
    """Copies a batch to the memory that a graph reads."""
    pairs = [(batch.dense, static.dense), (batch.label, static.label)]
    if batch.weight is not None and static.weight is not None:
        pairs.append((batch.weight, static.weight))
    sources, targets = (list(tensors) for tensors in zip(*pairs, strict=True))
    torch._foreach_copy_(targets, sources)
    static.is_real.copy_(batch.is_real)
    static.row.copy_(batch.row)


def _report(error: RuntimeError) -> None:
    console.print(f"training without CUDA graphs: {str(error).splitlines()[0]}", style="yellow")
    torch.cuda.synchronize()
    _renew_generator()


def _renew_generator() -> None:
    """Renews the device's generator of random numbers, at the same place: one in a failed recording draws no more."""
    if not torch.cuda.is_available():
        return
    used = torch.cuda.default_generators[torch.cuda.current_device()]
    renewed = torch.Generator(device="cuda")
    renewed.set_state(used.get_state())
    used.graphsafe_set_state(renewed)


class UpdateGraph:
    """Runs the update of the weights as a CUDA graph, from the fourth step on.

    Args:
        update: updates tensors by their gradients; leaves them as they are if the [] bool it gets is false. It returns
            the [] norm of the gradients.
        tensors: what it updates.
    """

    def __init__(self, update: Callable[[Tensor | None], Tensor], tensors: Sequence[Tensor]) -> None:
        self._update, self._tensors = update, list(tensors)
        self._n_runs, self._is_on = 0, True
        self._graph: torch.cuda.CUDAGraph | None = None
        self._gradients: list[Tensor] = []
        self._norm = torch.zeros((), device=self._tensors[0].device)
        self._is_finite = torch.ones((), dtype=torch.bool, device=self._tensors[0].device)

    def run(self, is_finite: Tensor | None) -> Tensor:
        """Updates the tensors; returns the [] norm of the gradients."""
        gradients = [tensor.grad for tensor in self._tensors if tensor.grad is not None]
        self._n_runs += 1
        if not self._is_on or self._n_runs <= _RUNS_BEFORE_CAPTURE or len(gradients) < len(self._tensors):
            return self._update(is_finite)
        if self._graph is None:
            try:
                self._graph = self._record(gradients)
            except RuntimeError as error:
                _report(error)
                self._is_on = False
                return self._update(is_finite)
        torch._foreach_copy_(self._gradients, gradients)
        if is_finite is not None:
            self._is_finite.copy_(is_finite)
        self._graph.replay()
        return self._norm

    def _record(self, gradients: list[Tensor]) -> torch.cuda.CUDAGraph:
        self._gradients = [gradient.clone() for gradient in gradients]
        for tensor, gradient in zip(self._tensors, self._gradients, strict=True):
            tensor.grad = gradient
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._norm.copy_(self._update(self._is_finite))
        return graph
