"""Gives embedding tables storage, spread over processes as planned: TorchRec's DistributedModelParallel."""

import hashlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardedModule

from recsys.distributed.config import EmbeddingTraining
from recsys.distributed.planning import Cluster, attach_optimizers, find_tables, make_planner, sharders
from recsys.nn.embeddings import Embeddings
from recsys.system.world import World

_INIT_ROWS = 65_536  # rows drawn from one generator: a shard draws the blocks that it meets


def shard(model: nn.Module, config: EmbeddingTraining, seed: int, batch_size: int, world: World) -> nn.Module:
    """Gives the tables storage, spread over the world, and fresh values that do not depend on how they are spread.

    Args:
        model: its tables have no storage yet; changed in place.
        config: each table's optimizer and the ways it may be sharded.
        seed: of the fresh embeddings.
        batch_size: rows of a process, for the planner's estimates.
        world: the processes.

    Returns:
        The model as a DistributedModelParallel. Its dense part is not wrapped: training sums those gradients itself,
        once a step however many micro-batches it takes.
    """
    tables = find_tables(model)
    constraints = attach_optimizers(tables, config, world.device.type, world.size)
    planner = make_planner(Cluster.of(world), constraints, batch_size)
    plan = planner.collective_plan(model, sharders(), dist.group.WORLD)
    for table in tables:
        # fbgemm's CPU kernel for copied tables can only pool: sequences of such a table are looked up by plain torch.
        if not table.is_pooled and "data_parallel" in constraints[table.name].sharding_types:
            del plan.plan[table.path]
    sharded = DistributedModelParallel(
        model, device=world.device, plan=plan, sharders=sharders(), init_data_parallel=False, init_parameters=False
    )
    _move_dense(sharded, world.device)
    initialize_tables(model, seed)
    return sharded


def _move_dense(module: nn.Module, device: torch.device) -> None:
    """Moves all but the sharded tables, which are on their device, and gives copied tables storage there."""
    if isinstance(module, ShardedModule):
        return
    for name, own in module._parameters.items():  # collections name those of their children as their own
        if own is not None and own.is_meta:
            module._parameters[name] = nn.Parameter(torch.empty_like(own, device=device))
        elif own is not None:
            own.data = own.data.to(device)
    for buffer in module._buffers.values():
        if buffer is not None:
            buffer.data = buffer.data.to(device)
    for child in module.children():
        _move_dense(child, device)


@torch.no_grad()
def initialize_tables(model: nn.Module, seed: int) -> None:
    """Draws every row from the module's normal distribution, as a function of seed, table and row alone."""
    for path, module in model.named_modules():
        if not isinstance(module, Embeddings):
            continue
        for name, value in module.state_dict().items():
            for tensor, rows, columns, width in _local_shards(value):
                _draw_rows(tensor, rows, columns, width, module.init_std, f"{seed}/{path}/{name}")


def _local_shards(value: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, int, int, int]]:
    """(local tensor, first row, first column, columns of the whole table) of each part that this process holds."""
    if not isinstance(value, ShardedTensor):
        yield value, 0, 0, value.shape[1]
        return
    for part in value.local_shards():
        row, column = part.metadata.shard_offsets
        yield part.tensor, row, column, value.size(1)


def _draw_rows(tensor: Tensor, first_row: int, first_column: int, width: int, std: float, name: str) -> None:
    n_rows, n_columns = tensor.shape
    for block in range(first_row // _INIT_ROWS, -(-(first_row + n_rows) // _INIT_ROWS)):
        digest = hashlib.sha256(f"{name}/{block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        drawn = torch.empty(_INIT_ROWS, width).normal_(0.0, std, generator=generator)
        start = block * _INIT_ROWS
        low, high = max(start, first_row), min(start + _INIT_ROWS, first_row + n_rows)
        mine = drawn[low - start : high - start, first_column : first_column + n_columns]
        tensor[low - first_row : high - first_row] = mine.to(tensor.device)
