"""`--show-sharding`: sharding plans for hypothetical clusters."""

from pathlib import Path

import pytest

from pipelines.common.config import load_rank_config
from pipelines.parts.sharding_plan import OF_A_CLUSTER, assume_schema
from ranking.models import build_model, resolve
from recsys.distributed.planning import Cluster, PlanEstimate, estimate_plan
from recsys.errors import InputError
from tests.helpers.commands import Run

BILLION = Path(__file__).parents[2] / "configs" / "billion.yaml"
PLAN_ONLY = ("rank", "--model", "dcnv2", "--show-sharding")


def plan_billions(world_size: int, *overrides: str) -> PlanEstimate:
    settings = load_rank_config(BILLION, "dcnv2", overrides)
    config, trainer = resolve(settings.model, settings.trainer, OF_A_CLUSTER)
    model = build_model(config, assume_schema(settings, None))
    cluster = Cluster(world_size, 8, "cuda", 80 * 2**30)
    return estimate_plan(model, trainer.embeddings, cluster, 8192, {})


@pytest.mark.slow
def test_tables_of_billions_of_rows_are_sharded_over_all_ranks() -> None:
    plan = plan_billions(64)
    by_name = {table.name: table for table in plan.tables}
    assert by_name["user_id"].sharding == "row_wise"
    assert by_name["user_id"].ranks == tuple(range(64))
    assert by_name["country"].sharding == "data_parallel"
    # A row has 64 float32 weights and one row-wise Adagrad value; the largest shard is near an equal share.
    n_bytes = 2_000_000_000 / 64 * (64 + 1) * 4
    assert n_bytes < by_name["user_id"].largest_shard < 1.1 * n_bytes
    tables = sum(table.n_rows * 65 * 4 for table in plan.tables if table.sharding != "data_parallel")
    assert tables < sum(plan.memory) < 1.2 * tables
    assert max(plan.memory) < 0.85 * 80 * 2**30
    assert plan.milliseconds["bwd_comms"] > 0


def test_sharding_set_in_the_config_is_kept() -> None:
    plan = plan_billions(
        16, "trainer.embeddings.tables={campaign_id: {sharding: [row_wise]}}", "model.embedding_dim=16"
    )
    assert {table.name: table.sharding for table in plan.tables}["campaign_id"] == "row_wise"


def test_tables_beyond_the_gpus_memory_are_planned_in_the_hosts() -> None:
    settings = "trainer.embeddings.tables={user_id: {location: managed_caching}}"
    plan = plan_billions(16, settings)
    kernels = {table.name: table.kernel for table in plan.tables}
    assert kernels["user_id"] == "fused_uvm_caching"
    assert sum(plan.host_memory) > 2_000_000_000 * 64 * 4


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"1,0\d\d GiB of embeddings do not fit 2 ranks of 80 GiB each"):
        plan_billions(2)


def test_the_plan_of_a_prepared_data_set(project: Path, run: Run) -> None:
    outcome = run(*PLAN_ONLY, "--config", "config.yaml", "--data", "raw", "--world-size", "4", "--hbm-gib", "16")
    assert outcome.code == 0, outcome.err
    for word in ("4 GPUs with 16.00 GiB each, 25 rows per GPU and step", "shop", "data_parallel", "0-3", "ms ("):
        assert word in outcome.out
    assert not (project / "runs").exists()


def test_unknown_table_is_refused(project: Path, run: Run) -> None:
    given = ("--config", "config.yaml", "--data", "raw", "show_sharding.num_embeddings={shp: 1000}")
    outcome = run(*PLAN_ONLY, *given)
    assert outcome.code == 2
    assert "show_sharding.num_embeddings: unknown table 'shp'; did you mean 'shop'?" in outcome.err
