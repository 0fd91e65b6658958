"""The processes of one training run: one by itself, or those that torchrun started."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class World:
    """This process among all of them."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the artifacts."""
        return self.rank == 0

    def broadcast(self, value: ValueT) -> ValueT:
        """The main process's value, on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """[n, ...] of each rank end to end, rank after rank; the same n everywhere. Gradients find their way back."""
        return tensor if self.size == 1 else cast(Tensor, _Gather.apply(tensor, self.rank, self.size))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Runs the block on the main process, then on the others: what it writes once, they find."""
        if not self.is_main:
            dist.barrier()
        yield
        if self.is_main and self.size > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward gives each rank the sum of what all of them found for its own."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, size: int) -> Tensor:
        """[n, ...] to [size * n, ...]."""
        ctx.rank, ctx.n_rows = rank, len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """[size * n, ...] to [n, ...]."""
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rank * ctx.n_rows : (ctx.rank + 1) * ctx.n_rows], None, None


def join_world() -> World:
    """Joins the processes that torchrun started, or a world of one; a second call gives the same world.

    TorchRec shards over a process group even where there is one process, so that a laptop and a cluster take the same
    path. A world of one talks to nobody: its store is a table in memory.
    """
    has_gpu = torch.cuda.is_available()
    if not dist.is_initialized():
        atexit.register(leave_world)
        backend = "cuda:nccl,cpu:gloo" if has_gpu else "gloo"
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    device = torch.device("cpu")
    if has_gpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def leave_world() -> None:
    """Lets go of the process group, if there is one, and thereby of its threads.

    A thread of Gloo that outlives the interpreter, and has a tensor of Python's to free, aborts the process. The group
    ends with the last that refers to it: models, some in cycles, do.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
