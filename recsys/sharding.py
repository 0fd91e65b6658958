"""Where embedding tables live and how they are updated: TorchRec's planner and DistributedModelParallel."""

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ModuleSharder, ShardedModule
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.embeddings import Embeddings
from recsys.errors import InputError
from recsys.training.config import EmbeddingTraining, ShardingName, TableOptions
from recsys.world import World

# Not column-wise: row-wise Adagrad would keep a sum for each part of a row, and the result depend on the world's size.
_FUSED_SHARDINGS: tuple[ShardingName, ...] = ("table_wise", "row_wise")
_INIT_ROWS = 65_536  # rows drawn from one generator: a shard draws the blocks that it meets


class _BagSharder(EmbeddingBagCollectionSharder):
    """Offers row-wise shards on CPU too: gloo has the reduce-scatter that they need."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """See TorchRec."""
        return super().sharding_types("cuda")


def sharders() -> list[ModuleSharder[nn.Module]]:
    """Of the modules that hold tables."""
    return [_BagSharder(), EmbeddingCollectionSharder()]


def options_of(table: str, n_rows: int, config: EmbeddingTraining) -> TableOptions:
    """A table's optimizer and sharding, with what was left open decided by its size."""
    chosen = TableOptions()
    for pattern, options in config.tables.items():
        if fnmatch.fnmatchcase(table, pattern):
            chosen = options
    optimizer = chosen.optimizer
    if optimizer is None:
        is_fused = n_rows >= config.fused_from_rows or bool(set(chosen.sharding) - {"data_parallel"})
        optimizer = "rowwise_adagrad" if is_fused else "adamw"
    sharding = chosen.sharding or (("data_parallel",) if optimizer == "adamw" else _FUSED_SHARDINGS)
    return TableOptions(optimizer=optimizer, sharding=sharding)


@dataclass(frozen=True)
class Table:
    """An embedding table of a model that is not sharded yet."""

    name: str
    weight: nn.Parameter
    path: str
    """Of the collection that holds it."""
    is_pooled: bool


def find_tables(model: nn.Module) -> list[Table]:
    """All embedding tables."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, EmbeddingBagCollection):
            found += [Table(name, bag.weight, path, True) for name, bag in module.embedding_bags.items()]
        elif isinstance(module, EmbeddingCollection):
            found += [Table(name, table.weight, path, False) for name, table in module.embeddings.items()]
    return found


def attach_optimizers(
    tables: Sequence[Table], config: EmbeddingTraining, device: str, world_size: int
) -> dict[str, ParameterConstraints]:
    """Gives tables with a fused optimizer theirs; what the planner may do with each table.

    Raises:
        InputError: for a pattern that matches no table, or an optimizer that a table or the device cannot have.
    """
    names = {table.name for table in tables}
    for pattern in config.tables:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                f"trainer.embeddings.tables: {pattern!r} matches no table: the model has {', '.join(sorted(names))}"
            )
    constraints = {}
    for table in tables:
        n_rows, embedding_dim = table.weight.shape
        options = options_of(table.name, n_rows, config)
        narrowest = None
        if options.sharding == ("column_wise",):  # asked for: a part for each process, where the planner would have 128
            narrowest = max(4, embedding_dim // world_size // 4 * 4)
        constraints[table.name] = ParameterConstraints(sharding_types=list(options.sharding), min_partition=narrowest)
        if options.optimizer == "adamw":
            continue
        if embedding_dim % 4:
            raise InputError(
                f"table {table.name!r} has a fused optimizer, which needs an embedding_dim that 4 divides, "
                f"got {embedding_dim}: change model.embedding_dim, or its optimizer to adamw"
            )
        if options.optimizer == "adam" and device == "cpu":
            raise InputError(
                f"trainer.embeddings.tables: the fused adam of table {table.name!r} needs a GPU: take rowwise_adagrad"
            )
        if options.optimizer == "adam":
            settings = {"lr": config.fused_learning_rate, "weight_decay": config.l2}
            apply_optimizer_in_backward(torch.optim.Adam, [table.weight], settings)
        else:
            apply_optimizer_in_backward(RowWiseAdagrad, [table.weight], {"lr": config.fused_learning_rate})
    return constraints


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
    topology = Topology(
        world_size=world.size,
        compute_device=world.device.type,
        local_world_size=torch.cuda.device_count() if world.device.type == "cuda" else world.size,
    )
    planner = EmbeddingShardingPlanner(topology=topology, constraints=constraints, batch_size=batch_size)
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
