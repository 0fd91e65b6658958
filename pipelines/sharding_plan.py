"""`--show-sharding`: where TorchRec would put a model's tables on a cluster, and what a step would take there."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rich.table import Table

from pipelines.common.config import RankConfig
from pipelines.common.data import find_prepared
from ranking.gbdt import GBDTConfig, GBDTTrainerConfig
from ranking.models import build_model
from recsys.distributed.planning import Cluster, PlanEstimate, estimate_plan
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.resolved import Schema, resolve_schema
from recsys.system.progress import console

GPUS_PER_MACHINE = 8


def print_sharding_plan(settings: RankConfig, data: Path | None, world_size: int, hbm_gib: float) -> None:
    """Plans for GPUs that need not be there, and prints the plan.

    Args:
        settings: the model, its training, and table sizes to suppose.
        data: as `--data`; needed for the tables whose size is not supposed.
        world_size: GPUs.
        hbm_gib: memory of each.
    """
    if isinstance(settings.model, GBDTConfig) or isinstance(settings.trainer, GBDTTrainerConfig):
        raise InputError("--show-sharding plans embedding tables, and gbdt has none: name another --model")
    schema = suppose_schema(settings, data)
    cluster = Cluster(world_size, GPUS_PER_MACHINE, "cuda", int(hbm_gib * 2**30))
    rows = -(-settings.trainer.batch_size // world_size)
    lengths = {s.name: float(s.max_length) for s in schema.token_sequences} | settings.show_sharding.sequence_lengths
    model = build_model(settings.model, schema)
    print_estimate(estimate_plan(model, settings.trainer.embeddings, cluster, rows, lengths), cluster, rows)


def suppose_schema(settings: RankConfig, data: Path | None) -> Schema:
    """The schema, with the supposed table sizes in place of the data's.

    Raises:
        InputError: for the size of a table that there is not.
    """
    supposed = settings.show_sharding.num_embeddings
    schema = _schema_without_data(settings) if data is None else None
    if schema is None:
        schema = find_prepared(settings.data, data).split("full").schema
    known = list(schema.vocabularies)
    for table in supposed:
        if table not in known:
            raise InputError(f"show_sharding.num_embeddings: there is no table {table!r}{nearest(table, known)}")
    return schema.model_copy(update={"num_embeddings": schema.num_embeddings | supposed})


def _schema_without_data(settings: RankConfig) -> Schema | None:
    """The schema, where the config names every column in full and the size of every table is supposed."""
    config = settings.data.schema_
    try:
        schema = resolve_schema(config, config.named_columns())
    except InputError:  # a pattern needs columns to match
        return None
    is_complete = set(schema.vocabularies) <= set(settings.show_sharding.num_embeddings)
    return schema.model_copy(update={"dense": schema.numeric}) if is_complete else None


def print_estimate(plan: PlanEstimate, cluster: Cluster, rows: int) -> None:
    """Shows the plan table by table, the memory rank by rank, and the step's time part by part."""
    title = f"{cluster.world_size} GPUs of {_size(cluster.memory)}, {rows:,} rows a GPU and step"
    tables = Table(title=title, title_justify="left")
    for column in ("table", "of", "rows", "dim", "sharding", "kernel", "ranks", "a shard"):
        tables.add_column(column, justify="left" if column in ("table", "of", "sharding", "kernel") else "right")
    for table in plan.tables:
        of, shard = table.path.rsplit(".", 1)[0], _size(table.largest_shard)
        row = (table.name, of, f"{table.n_rows:,}", str(table.embedding_dim), table.sharding, table.kernel)
        tables.add_row(*row, _ranges(table.ranks), shard)
    console.print(tables)

    memory = Table(title="memory of embeddings, their optimizer and a step's buffers", title_justify="left")
    for column in ("ranks", "of the GPU", "%", "of the host"):
        memory.add_column(column, justify="right")
    known = sorted(zip(plan.memory, plan.host_memory, range(cluster.world_size), strict=True))
    for (hbm, host), group in groupby(known, key=lambda one: (_size(one[0]), _size(one[1]))):
        ranks = [rank for _, _, rank in group]
        share = f"{100 * plan.memory[ranks[0]] / cluster.memory:.1f}"
        memory.add_row(_ranges(ranks), hbm, share, host)
    console.print(memory)

    parts = ", ".join(f"{name.replace('_', ' ')} {ms:.3f}" for name, ms in plan.milliseconds.items() if ms)
    total = sum(plan.milliseconds.values())
    console.print(
        f"a step's embedding work, by TorchRec's estimate for the slowest rank: {total:.2f} ms ({parts}); "
        f"{rows * cluster.world_size / total * 1000:,.0f} rows/s at most"
    )


def _size(n_bytes: int) -> str:
    """In GiB, or in MiB where that is less than one."""
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.2f} MiB"


def _ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3, 5 as `1-3, 5`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)
