"""`--show-sharding`: TorchRec's sharding plan of a model on a cluster, and its estimate of a step's time."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rich.table import Table

from pipelines.common.config import RankConfig
from pipelines.common.data import find_prepared
from ranking.model_config import DeepModelConfig
from ranking.models import build_model, resolve
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
from recsys.defaults import DataSize
from recsys.distributed.planning import Cluster, PlanEstimate, estimate_plan
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.resolved import Schema, resolve_schema
from recsys.system.progress import console
from recsys.training.config import TrainerConfig

GPUS_PER_MACHINE = 8
OF_A_CLUSTER = DataSize(n_rows=10**9, n_positive=2 * 10**7, device="cuda")
"""The data that settings which are `auto` follow: a plan for a cluster needs no data."""


def print_sharding_plan(settings: RankConfig, data: Path | None, world_size: int, hbm_gib: float) -> None:
    """Plans and prints the sharding for a cluster, which this machine does not need to have.

    Args:
        settings: the model, its training, and assumed table sizes.
        data: as `--data`; needed if the size of any table is not assumed.
        world_size: number of GPUs.
        hbm_gib: memory of a GPU, in GiB.
    """
    if isinstance(settings.model, GBDTConfig) or isinstance(settings.trainer, GBDTTrainerConfig):
        raise InputError("--show-sharding plans embedding tables, and gbdt has none: pass another --model")
    schema = assume_schema(settings, data)
    cluster = Cluster(world_size, GPUS_PER_MACHINE, "cuda", int(hbm_gib * 2**30))
    config, trainer = resolve(settings.model, settings.trainer, OF_A_CLUSTER)
    assert isinstance(config, DeepModelConfig)
    assert isinstance(trainer, TrainerConfig)
    rows = -(-trainer.batch_size // world_size)
    lengths = {s.name: float(s.max_length) for s in schema.token_sequences} | settings.show_sharding.sequence_lengths
    model = build_model(config, schema)
    print_estimate(estimate_plan(model, trainer.embeddings, cluster, rows, lengths), cluster, rows)


def assume_schema(settings: RankConfig, data: Path | None) -> Schema:
    """The schema with the table sizes of `show_sharding.num_embeddings`, which override those of the data.

    Raises:
        InputError: for the size of an unknown table.
    """
    assumed = settings.show_sharding.num_embeddings
    schema = _schema_without_data(settings) if data is None else None
    if schema is None:
        schema = find_prepared(settings.data, data, settings.sections).split("full").schema
    tables = list(schema.vocabularies)
    for table in assumed:
        if table not in tables:
            raise InputError(f"show_sharding.num_embeddings: unknown table {table!r}{nearest(table, tables)}")
    return schema.model_copy(update={"num_embeddings": schema.num_embeddings | assumed})


def _schema_without_data(settings: RankConfig) -> Schema | None:
    """The schema if the config lists every column without patterns and the size of every table; else None."""
    config = settings.data.schema_
    try:
        schema = resolve_schema(config, config.named_columns())
    except InputError:  # patterns can only be matched with the columns of data
        return None
    is_complete = set(schema.vocabularies) <= set(settings.show_sharding.num_embeddings)
    return schema.model_copy(update={"dense": schema.numeric}) if is_complete else None


def print_estimate(plan: PlanEstimate, cluster: Cluster, rows: int) -> None:
    """Prints the plan of each table, the memory of each rank, and the phases of a step's time."""
    title = f"{cluster.world_size} GPUs with {_size(cluster.memory)} each, {rows:,} rows per GPU and step"
    tables = Table(title=title, title_justify="left")
    for column in ("table", "module", "rows", "dim", "sharding", "kernel", "ranks", "largest shard"):
        tables.add_column(column, justify="left" if column in ("table", "module", "sharding", "kernel") else "right")
    for table in plan.tables:
        module, shard = table.path.rsplit(".", 1)[0], _size(table.largest_shard)
        row = (table.name, module, f"{table.n_rows:,}", str(table.embedding_dim), table.sharding, table.kernel)
        tables.add_row(*row, _ranges(table.ranks), shard)
    console.print(tables)

    memory = Table(title="memory of embedding tables, optimizer state and the buffers of a step", title_justify="left")
    for column in ("ranks", "GPU memory", "GPU %", "host memory"):
        memory.add_column(column, justify="right")
    by_memory = sorted(zip(plan.memory, plan.host_memory, range(cluster.world_size), strict=True))
    for (hbm, host), group in groupby(by_memory, key=lambda entry: (_size(entry[0]), _size(entry[1]))):
        ranks = [rank for _, _, rank in group]
        share = f"{100 * plan.memory[ranks[0]] / cluster.memory:.1f}"
        memory.add_row(_ranges(ranks), hbm, share, host)
    console.print(memory)

    phases = ", ".join(f"{name.replace('_', ' ')} {ms:.3f}" for name, ms in plan.milliseconds.items() if ms)
    total = sum(plan.milliseconds.values())
    console.print(
        f"embedding time per step on the slowest rank, estimated by TorchRec: {total:.2f} ms ({phases}); "
        f"at most {rows * cluster.world_size / total * 1000:,.0f} rows/s"
    )


def _size(n_bytes: int) -> str:
    """A size in GiB, or in MiB below 1 GiB."""
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.2f} MiB"


def _ranges(numbers: Iterable[int]) -> str:
    """Formats 1, 2, 3, 5 as `1-3, 5`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
