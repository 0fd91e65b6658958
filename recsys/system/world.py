"""The processes of a training run: a single process, or those started by torchrun."""

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
    """Rank, world size and device of this process."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the artifacts."""
        return self.rank == 0

    def broadcast(self, value: ValueT) -> ValueT:
        """Returns the value of the main process on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenates the [n, ...] tensors of all ranks in rank order, differentiably; n is equal on all ranks."""
        return tensor if self.size == 1 else cast(Tensor, _Gather.apply(tensor, self.rank, self.size))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Runs the block on the main process, then on the others, which can read the files it wrote."""
        if not self.is_main:
            dist.barrier()
        yield
        if self.is_main and self.size > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """Gathers the rows of all ranks; backward sums the gradients of this rank's rows over all ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, size: int) -> Tensor:
        """[n, ...] to [size * n, ...]."""
        ctx.rank, ctx.n_rows = rank, len(tensor)
        gathered = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """[size * n, ...] to [n, ...]."""
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rank * ctx.n_rows : (ctx.rank + 1) * ctx.n_rows], None, None


def join_world() -> World:
    """Joins the process group of torchrun, or creates one of a single process. Later calls return the same world.

    TorchRec shards over a process group even for one process, so that a laptop and a cluster run the same code. The
    store of a single process is in memory and uses no network.
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
    """Destroys the process group, if it exists, and thereby its threads.

    A Gloo thread that outlives the interpreter and frees a Python tensor aborts the process. The group lives as long
    as objects refer to it: models do, some of them in reference cycles, which are collected first.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
