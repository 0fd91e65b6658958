"""Optimizers and sharding plans of embedding tables, by TorchRec's planner, for this or a hypothetical cluster."""

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
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, ShardingOption
from torchrec.distributed.types import ModuleSharder
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.distributed.config import EmbeddingTraining, Location, ShardingName, TableOptions
from recsys.errors import InputError
from recsys.system.world import World

# Not column-wise: row-wise Adagrad would keep one sum per column shard, so results would depend on the world size.
_FUSED_SHARDINGS: tuple[ShardingName, ...] = ("table_wise", "row_wise")
_KERNELS: dict[Location, EmbeddingComputeKernel | None] = {
    "device": None,  # the planner's choice
    "managed": EmbeddingComputeKernel.FUSED_UVM,
    "managed_caching": EmbeddingComputeKernel.FUSED_UVM_CACHING,
}
_RESERVED = 0.15  # share of each device's memory for the dense part, activations and buffers


@dataclass(frozen=True)
class Cluster:
    """Devices to shard tables over.

    Args:
        world_size: number of processes, each with one device.
        local_world_size: processes on one machine.
        device: cuda or cpu.
        memory: bytes of memory per device.
    """

    world_size: int
    local_world_size: int
    device: str
    memory: int

    @classmethod
    def of(cls, world: World) -> "Cluster":
        """The cluster of this process."""
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
        if world.device.type == "cuda":
            memory = torch.cuda.get_device_properties(world.device).total_memory
        else:
            memory = psutil.virtual_memory().total // local_world_size
        return cls(world.size, local_world_size, world.device.type, memory)


def make_planner(
    cluster: Cluster, constraints: dict[str, ParameterConstraints], batch_size: int
) -> EmbeddingShardingPlanner:
    """Builds TorchRec's planner.

    Args:
        cluster: the devices.
        constraints: allowed sharding of each table.
        batch_size: rows per process and step.
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
    """Allows row-wise shards on CPU too: gloo supports the reduce-scatter that they need."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """See `EmbeddingBagCollectionSharder`."""
        return super().sharding_types("cuda")


def sharders() -> list[ModuleSharder[nn.Module]]:
    """Sharders of the embedding collections."""
    return [_BagSharder(), EmbeddingCollectionSharder()]


def table_options(table: str, n_rows: int, config: EmbeddingTraining) -> TableOptions:
    """A table's optimizer and sharding; the number of rows decides if the config does not."""
    configured = TableOptions()
    for pattern, options in config.tables.items():
        if fnmatch.fnmatchcase(table, pattern):
            configured = options
    optimizer = configured.optimizer
    if optimizer is None:
        is_sharded = bool(set(configured.sharding) - {"data_parallel"}) or configured.location != "device"
        is_fused = n_rows >= config.fused_from_rows or is_sharded
        optimizer = "rowwise_adagrad" if is_fused else "adamw"
    sharding = configured.sharding or (("data_parallel",) if optimizer == "adamw" else _FUSED_SHARDINGS)
    return TableOptions(optimizer=optimizer, sharding=sharding, location=configured.location)


@dataclass(frozen=True)
class Table:
    """An embedding table of an unsharded model."""

    name: str
    weight: nn.Parameter
    path: str
    """Path of the collection that holds the table."""
    features: tuple[str, ...]
    is_pooled: bool


def find_tables(model: nn.Module) -> list[Table]:
    """Lists all embedding tables of a model."""
    tables = []
    for path, module in model.named_modules():
        if isinstance(module, EmbeddingBagCollection):
            for config in module.embedding_bag_configs():
                weight = module.embedding_bags[config.name].weight
                tables.append(Table(config.name, weight, path, tuple(config.feature_names), True))
        elif isinstance(module, EmbeddingCollection):
            for config in module.embedding_configs():
                weight = module.embeddings[config.name].weight
                tables.append(Table(config.name, weight, path, tuple(config.feature_names), False))
    return tables


def attach_optimizers(
    tables: Sequence[Table], config: EmbeddingTraining, device: str, world_size: int
) -> dict[str, ParameterConstraints]:
    """Attaches the fused optimizers to their tables.

    Returns:
        The planner's constraints, by table name.

    Raises:
        InputError: if a pattern matches no table, or a table or the device does not support its optimizer.
    """
    config = config.resolved(device)
    names = {table.name for table in tables}
    for pattern in config.tables:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                f"trainer.embeddings.tables: {pattern!r} matches no table: the model has {', '.join(sorted(names))}"
            )
    constraints = {}
    for table in tables:
        n_rows, embedding_dim = table.weight.shape
        options = table_options(table.name, n_rows, config)
        if world_size == 1 and options.sharding == _FUSED_SHARDINGS:
            options = options.model_copy(update={"sharding": ("table_wise",)})  # row-wise would only add work
        min_width = None
        if options.sharding == ("column_wise",):  # one shard per process instead of the planner's minimum width of 128
            min_width = max(4, embedding_dim // world_size // 4 * 4)
        if options.location != "device" and device == "cpu":
            raise InputError(f"trainer.embeddings.tables: location {options.location} of {table.name!r} needs a GPU")
        kernel = _KERNELS[options.location]
        constraints[table.name] = ParameterConstraints(
            sharding_types=list(options.sharding),
            min_partition=min_width,
            compute_kernels=None if kernel is None else [kernel.value],
        )
        if options.optimizer == "adamw":
            continue
        if embedding_dim % 4:
            raise InputError(
                f"table {table.name!r} has a fused optimizer, which needs an embedding_dim divisible by 4, "
                f"got {embedding_dim}: change model.embedding_dim, or set the table's optimizer to adamw"
            )
        if options.optimizer == "adam" and device == "cpu":
            raise InputError(
                f"trainer.embeddings.tables: the fused adam of table {table.name!r} needs a GPU: set rowwise_adagrad"
            )
        if options.optimizer == "adam":
            settings = {"lr": config.fused_learning_rate, "weight_decay": config.l2}
            apply_optimizer_in_backward(torch.optim.Adam, [table.weight], settings)
        elif options.optimizer == "sgd":
            apply_optimizer_in_backward(torch.optim.SGD, [table.weight], {"lr": config.fused_learning_rate})
        else:
            apply_optimizer_in_backward(RowWiseAdagrad, [table.weight], {"lr": config.fused_learning_rate})
    return constraints


@dataclass(frozen=True)
class PlannedTable:
    """The planner's decision for one table."""

    name: str
    path: str
    n_rows: int
    embedding_dim: int
    sharding: str
    kernel: str
    """TorchRec's compute kernel: dense (replicated, AdamW), fused, or fused_uvm (tables partly in host memory)."""
    ranks: tuple[int, ...]
    largest_shard: int
    """Bytes of the largest shard, with the optimizer state and the buffers of a step."""


@dataclass(frozen=True)
class PlanEstimate:
    """A sharding plan with estimates of its memory and time."""

    tables: list[PlannedTable]
    memory: list[int]
    """Bytes of device memory on each rank."""
    host_memory: list[int]
    """Bytes of host memory for each rank."""
    milliseconds: dict[str, float]
    """TorchRec's estimate of the embedding time of a step, by stage, on the rank with the largest total."""


_STEP_STAGES = ("input_dist_comms", "fwd_compute", "fwd_comms", "bwd_compute", "bwd_comms", "prefetch_compute")


def estimate_plan(
    model: nn.Module, config: EmbeddingTraining, cluster: Cluster, batch_size: int, lengths: Mapping[str, float]
) -> PlanEstimate:
    """Plans the sharding for a cluster, which may be hypothetical.

    Args:
        model: a model whose tables have no storage; this function attaches optimizers to them.
        config: optimizer and allowed sharding of each table.
        cluster: the devices.
        batch_size: rows per process and step.
        lengths: mean number of ids per row, for features with more or fewer than one.

    Raises:
        InputError: if the tables do not fit in the cluster's memory.
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
            f"{_RESERVED:.0%} is reserved for the rest of the model: use more ranks or a smaller model.embedding_dim"
        ) from error
    options: list[ShardingOption] = planner._best_plan
    memory, host_memory = [0] * cluster.world_size, [0] * cluster.world_size
    times = [dict.fromkeys(_STEP_STAGES, 0.0) for _ in range(cluster.world_size)]
    planned_tables = []
    for option in sorted(options, key=lambda option: -option.tensor.numel()):
        for shard in option.shards:
            memory[shard.rank] += shard.storage.hbm
            host_memory[shard.rank] += shard.storage.ddr
            for stage in _STEP_STAGES:
                times[shard.rank][stage] += getattr(shard.perf, stage)
        planned_tables.append(
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
    return PlanEstimate(planned_tables, memory, host_memory, max(times, key=lambda stages: sum(stages.values())))
