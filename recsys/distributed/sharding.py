"""Shards and initializes the embedding tables of a model with TorchRec's DistributedModelParallel."""

import hashlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardedModule

from recsys.distributed.config import EmbeddingTraining
from recsys.distributed.local import keep_local
from recsys.distributed.planning import Cluster, attach_optimizers, find_tables, make_planner, sharders
from recsys.nn.embeddings import Embeddings
from recsys.system.world import World

_INIT_ROWS = 65_536  # rows drawn from one generator; a shard draws the blocks that it overlaps


def shard(model: nn.Module, config: EmbeddingTraining, seed: int, batch_size: int, world: World) -> nn.Module:
    """Shards the tables over the world and initializes them; their values do not depend on the sharding.

    Args:
        model: a model whose tables have no storage; changed in place.
        config: optimizer and allowed sharding of each table.
        seed: seed of the initial embeddings.
        batch_size: rows per process and step, for the planner's estimates.
        world: the processes.

    Returns:
        The model as a DistributedModelParallel. Its dense part is not wrapped: training sums the dense gradients once
        per step, for any number of micro-batches.
    """
    tables = find_tables(model)
    constraints = attach_optimizers(tables, config, world.device.type, world.size)
    planner = make_planner(Cluster.of(world), constraints, batch_size)
    plan = planner.collective_plan(model, sharders(), dist.group.WORLD)
    for table in tables:
        # fbgemm's CPU kernel for replicated tables can only pool: plain torch looks up the sequences of these tables.
        if not table.is_pooled and "data_parallel" in constraints[table.name].sharding_types:
            del plan.plan[table.path]
    sharded = DistributedModelParallel(
        model, device=world.device, plan=plan, sharders=sharders(), init_data_parallel=False, init_parameters=False
    )
    if world.size == 1:
        keep_local(sharded)
    _move_dense(sharded, world.device)
    initialize_tables(model, seed)
    return sharded


def _move_dense(module: nn.Module, device: torch.device) -> None:
    """Moves all but the sharded tables to the device, and allocates replicated tables there."""
    if isinstance(module, ShardedModule):
        return
    for name, parameter in module._parameters.items():  # collections also list the parameters of their children
        if parameter is not None and parameter.is_meta:
            module._parameters[name] = nn.Parameter(torch.empty_like(parameter, device=device))
        elif parameter is not None:
            parameter.data = parameter.data.to(device)
    for buffer in module._buffers.values():
        if buffer is not None:
            buffer.data = buffer.data.to(device)
    for child in module.children():
        _move_dense(child, device)


@torch.no_grad()
def initialize_tables(model: nn.Module, seed: int) -> None:
    """Draws every row from the module's normal distribution; the values depend only on seed, table and row."""
    for path, module in model.named_modules():
        if not isinstance(module, Embeddings):
            continue
        for name, value in module.state_dict().items():
            for tensor, first_row, first_column, width in _local_shards(value):
                _draw_rows(tensor, first_row, first_column, width, module.init_std, f"{seed}/{path}/{name}")


@torch.no_grad()
def fill_table(table: Tensor | ShardedTensor, values: Tensor) -> None:
    """Sets each row of an [n, D] table to D times its value of [n]; of a sharded table, this process's rows."""
    for tensor, first_row, _, _ in _local_shards(table):
        tensor.copy_(values[first_row : first_row + len(tensor), None].expand_as(tensor))


def _local_shards(value: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, int, int, int]]:
    """Yields (local tensor, first row, first column, columns of the whole table) for each shard of this process."""
    if not isinstance(value, ShardedTensor):
        yield value, 0, 0, value.shape[1]
        return
    for local_shard in value.local_shards():
        first_row, first_column = local_shard.metadata.shard_offsets
        yield local_shard.tensor, first_row, first_column, value.size(1)


def _draw_rows(tensor: Tensor, first_row: int, first_column: int, width: int, std: float, name: str) -> None:
    n_rows, n_columns = tensor.shape
    for block in range(first_row // _INIT_ROWS, -(-(first_row + n_rows) // _INIT_ROWS)):
        digest = hashlib.sha256(f"{name}/{block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        block_values = torch.empty(_INIT_ROWS, width).normal_(0.0, std, generator=generator)
        start = block * _INIT_ROWS
        low, high = max(start, first_row), min(start + _INIT_ROWS, first_row + n_rows)
        values = block_values[low - start : high - start, first_column : first_column + n_columns]
        tensor[low - first_row : high - first_row] = values.to(tensor.device)
