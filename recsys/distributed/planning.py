"""How embedding tables are updated and where they live: TorchRec's planner, for this cluster or one not there."""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, ShardingOption
from torchrec.distributed.types import ModuleSharder
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.distributed.config import EmbeddingTraining, ShardingName, TableOptions
from recsys.errors import InputError
from recsys.system.world import World

# Not column-wise: row-wise Adagrad would keep a sum for each part of a row, and the result depend on the world's size.
_FUSED_SHARDINGS: tuple[ShardingName, ...] = ("table_wise", "row_wise")
_RESERVED = 0.15  # of each device's memory, for the dense part, activations and buffers


@dataclass(frozen=True)
class Cluster:
    """Devices to spread tables over.

    Args:
        world_size: processes, each with a device.
        local_world_size: those of one machine.
        device: cuda or cpu.
        memory: bytes of a device.
    """

    world_size: int
    local_world_size: int
    device: str
    memory: int

    @classmethod
    def of(cls, world: World) -> "Cluster":
        """The one that this process is part of."""
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
        if world.device.type == "cuda":
            memory = torch.cuda.get_device_properties(world.device).total_memory
        else:
            memory = psutil.virtual_memory().total // local
        return cls(world.size, local, world.device.type, memory)


def make_planner(
    cluster: Cluster, constraints: dict[str, ParameterConstraints], batch_size: int
) -> EmbeddingShardingPlanner:
    """TorchRec's planner.

    Args:
        cluster: the devices.
        constraints: what may be done with each table.
        batch_size: rows of a process in a step.
    """
    is_gpu = cluster.device == "cuda"
    topology = Topology(
        world_size=cluster.world_size,
        local_world_size=min(cluster.local_world_size, cluster.world_size),
        compute_device=cluster.device,
        hbm_cap=cluster.memory if is_gpu else None,
        ddr_cap=None if is_gpu else cluster.memory,
    )
    return EmbeddingShardingPlanner(
        topology=topology,
        constraints=constraints,
        batch_size=batch_size,
        storage_reservation=FixedPercentageStorageReservation(_RESERVED),
    )


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
    features: tuple[str, ...]
    is_pooled: bool


def find_tables(model: nn.Module) -> list[Table]:
    """All embedding tables."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, EmbeddingBagCollection):
            for config in module.embedding_bag_configs():
                weight = module.embedding_bags[config.name].weight
                found.append(Table(config.name, weight, path, tuple(config.feature_names), True))
        elif isinstance(module, EmbeddingCollection):
            for config in module.embedding_configs():
                weight = module.embeddings[config.name].weight
                found.append(Table(config.name, weight, path, tuple(config.feature_names), False))
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


@dataclass(frozen=True)
class PlannedTable:
    """What TorchRec's planner decided for a table."""

    name: str
    path: str
    n_rows: int
    embedding_dim: int
    sharding: str
    kernel: str
    """TorchRec's compute kernel: dense for AdamW's copies, fused, or fused_uvm where memory of the host helps out."""
    ranks: tuple[int, ...]
    largest_shard: int
    """Bytes, with the optimizer's state and the buffers of a step."""


@dataclass(frozen=True)
class PlanEstimate:
    """A sharding plan and what it takes."""

    tables: list[PlannedTable]
    memory: list[int]
    """Bytes on each rank's device."""
    host_memory: list[int]
    """Bytes of the host's memory for each rank."""
    milliseconds: dict[str, float]
    """TorchRec's estimate of a step's embedding work, by part; of the rank for which their sum is largest."""


_STEP_PARTS = ("input_dist_comms", "fwd_compute", "fwd_comms", "bwd_compute", "bwd_comms", "prefetch_compute")


def estimate_plan(
    model: nn.Module, config: EmbeddingTraining, cluster: Cluster, batch_size: int, lengths: Mapping[str, float]
) -> PlanEstimate:
    """Plans for a cluster that need not be there.

    Args:
        model: its tables have no storage; changed by the optimizers that they get.
        config: each table's optimizer and the ways it may be sharded.
        cluster: the devices.
        batch_size: rows of a process in a step.
        lengths: ids a row has on average, for features that have not one.

    Raises:
        InputError: when the tables do not fit.
    """
    tables = find_tables(model)
    constraints = attach_optimizers(tables, config, cluster.device, cluster.world_size)
    for table in tables:
        constraints[table.name].pooling_factors = [lengths.get(feature, 1.0) for feature in table.features]
    planner = make_planner(cluster, constraints, batch_size)
    try:
        planner.plan(model, sharders())
    except PlannerError as error:
        size = sum(4 * table.weight.numel() for table in tables) / 2**30
        gib = cluster.memory / 2**30
        raise InputError(
            f"{size:,.0f} GiB of embeddings do not fit {cluster.world_size} ranks of {gib:,.0f} GiB each, of which "
            f"{_RESERVED:.0%} are kept for the rest of the model: take more ranks, or a smaller model.embedding_dim"
        ) from error
    options: list[ShardingOption] = planner._best_plan
    memory, host = [0] * cluster.world_size, [0] * cluster.world_size
    times = [dict.fromkeys(_STEP_PARTS, 0.0) for _ in range(cluster.world_size)]
    planned = []
    for option in sorted(options, key=lambda option: -option.tensor.numel()):
        for shard in option.shards:
            memory[shard.rank] += shard.storage.hbm
            host[shard.rank] += shard.storage.ddr
            for part in _STEP_PARTS:
                times[shard.rank][part] += getattr(shard.perf, part)
        planned.append(
            PlannedTable(
                name=option.name,
                path=option.path,
                n_rows=option.tensor.shape[0],
                embedding_dim=option.tensor.shape[1],
                sharding=option.sharding_type,
                kernel=option.compute_kernel,
                ranks=tuple(sorted({shard.rank for shard in option.shards})),
                largest_shard=max(shard.storage.hbm + shard.storage.ddr for shard in option.shards),
            )
        )
    return PlanEstimate(planned, memory, host, max(times, key=lambda parts: sum(parts.values())))
