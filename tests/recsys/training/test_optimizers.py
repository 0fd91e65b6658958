from pathlib import Path

import pytest
import torch

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from recsys.distributed.fused import fused_kernels
from recsys.training.config import TrainerConfig
from recsys.training.update.optimizers import schedule
from tests.helpers.step import Setup
from tests.helpers.training import quick, trainer_of


def test_learning_rate_warms_up_and_decays_by_a_cosine() -> None:
    config = TrainerConfig(warmup_fraction=0.1, final_learning_rate_fraction=0.2)
    factors = [schedule(step, 100, config) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.6)  # half-way down from 1 to .2
    assert factors[100] == pytest.approx(0.2)


def test_dense_and_fused_rates_follow_one_schedule(small: PreparedDataset) -> None:
    tables = {"shop": {"optimizer": "rowwise_adagrad"}}
    embeddings = {"tables": tables, "fused_learning_rate": 0.5}
    setup = Setup(small, "dcnv2", learning_rate=0.1, warmup_fraction=0.5, embeddings=embeddings)
    for step in (0, 100, 499, 900):
        rates = setup.optimizers.set_rates(step)
        factor = schedule(step, 1000, setup.config)
        assert rates == {"dense": pytest.approx(0.1 * factor), "fused": pytest.approx(0.5 * factor)}
        assert {group["lr"] for group in setup.optimizers.dense.param_groups} == {rates["dense"]}
        found = [kernel.get_learning_rate() for kernel in fused_kernels(setup.model)]
        assert found == pytest.approx([rates["fused"]])


def test_weight_decay_applies_only_to_dense_matrices(small: PreparedDataset) -> None:
    model = DCNv2(DCNv2Config(hidden_dims=(8,), batch_norm=True), small.split("full").schema)
    trainer = trainer_of(small, "full", quick(weight_decay=0.1), Path("unused"), model)
    decayed, free = trainer._updater.optimizers.dense.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    matrices = {names[id(p)] for p in decayed["params"]}
    assert {"cross.layers.0.weight", "mlp.layers.0.0.weight", "head.linear.weight"} <= matrices
    assert not [name for name in matrices if "embedding" in name or name.endswith("bias")]
    assert {"mlp.layers.0.1.weight"} <= {names.get(id(p)) for p in free["params"]}  # the weight of a norm
    assert sum(p.numel() for p in decayed["params"] + free["params"]) == sum(p.numel() for p in model.parameters())


def test_large_tables_are_fused_by_default(small: PreparedDataset, tmp_path: Path) -> None:
    embeddings = {"fused_from_rows": 30, "tables": {"se*": {"optimizer": "adamw"}}}
    trainer = trainer_of(small, "full", quick(embeddings=embeddings), tmp_path)
    rows = small.split("full").schema.num_embeddings
    assert rows["color"] < 30 <= min(rows["shop"], rows["seen"])
    kinds = {name: s.sharding_type for name, s in trainer._updater.sharded.plan.plan["embeddings.collection"].items()}
    assert kinds["color"] == kinds["seen"] == "data_parallel"
    assert kinds["shop"] in ("table_wise", "row_wise")


def test_gradients_are_clipped_together(small: PreparedDataset) -> None:
    """Clipped gradients keep their direction and have the configured norm."""
    free, clipped = Setup(small, "dcnv2", gradient_clip=None), Setup(small, "dcnv2", gradient_clip=1e-3)
    gradients = []
    for setup in (free, clipped):
        batch = setup.batches[0].to(torch.device("cpu"))
        _, looked_up = setup.step.dense_step(batch, len(batch))
        setup.step.table_step(looked_up)
        setup.optimizers.step()
        gradients.append(torch.cat([p.grad.flatten() for p in setup.optimizers.parameters if p.grad is not None]))
    assert free.optimizers.norm == pytest.approx(float(gradients[0].norm()), rel=1e-4)
    assert float(gradients[1].norm()) == pytest.approx(1e-3, rel=1e-3)
    assert torch.allclose(gradients[0] / gradients[0].norm(), gradients[1] / gradients[1].norm(), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": {"name": "log_loss", "gamma": 1.0}}, "'gamma' is not a setting of the log_loss loss"),
        ({"loss": {"name": "focal", "pos_weight": 2.0}}, "'pos_weight' is not a setting of the focal loss"),
        (
            {"embeddings": {"tables": {"a": {"optimizer": "adamw", "sharding": ["row_wise"]}}}},
            "a table with optimizer adamw must be data_parallel",
        ),
        (
            {"embeddings": {"tables": {"a": {"optimizer": "adam", "sharding": ["data_parallel"]}}}},
            "a table with optimizer adam cannot be data_parallel",
        ),
        (
            {"embeddings": {"tables": {"a": {"optimizer": "adamw", "location": "managed"}}}},
            "a table with optimizer adamw cannot be managed",
        ),
        (
            {"embeddings": {"tables": {"a": {"location": "managed", "sharding": ["data_parallel"]}}}},
            "a table in managed memory cannot be data_parallel",
        ),
        ({"compile": "on", "mixout": 0.1}, "compile=on cannot be had with mixout"),
        ({"early_stopping": {"weights": {"auc": 1.0}}}, "'auc' is not a metric: choose from ap, ece"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainerConfig.model_validate(settings)
