"""Fits the same model with several shardings of its tables; the tests run it alone and under torchrun.

python -m tests.recsys.training.sharded_fits PREPARED OUT [fit|linear|kill|resume]
"""

import json
import sys
from pathlib import Path

import torch

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from recsys.system.world import World, join_world
from recsys.training.checkpoint import tensor_names
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.state import FitReport
from recsys.training.trainer import Trainer
from tests.helpers.jagged_model import Jagged
from tests.helpers.training import Killed, kill_at

LAYOUTS: dict[str, dict[str, object]] = {
    "copied": {},
    "table_wise": {"*": {"optimizer": "rowwise_adagrad", "sharding": ["table_wise"]}},
    "row_wise": {"*": {"optimizer": "rowwise_adagrad", "sharding": ["row_wise"]}},
    "column_wise": {"*": {"optimizer": "rowwise_adagrad", "sharding": ["column_wise"]}},
    "mixed": {
        "shop": {"optimizer": "rowwise_adagrad", "sharding": ["row_wise"]},
        "seen": {"optimizer": "rowwise_adagrad", "sharding": ["table_wise"]},
    },
}


def make(dataset: PreparedDataset, layout: str, folder: Path, world: World) -> Trainer:
    """Builds a trainer whose last batch has one row: the first of two processes gets none."""
    split = dataset.split("fold_3")
    batch_size = 45
    assert len(split.fit_rows) % batch_size == 1
    config = TrainerConfig.model_validate(
        {
            "epochs": 2,
            "batch_size": batch_size,
            "micro_batches": 2,
            "learning_rate": 0.01,
            "precision": "fp32",
            "early_stopping": None,
            "checkpoint_every_s": 1e-9,
            "embeddings": {"tables": LAYOUTS[layout], "l2": 0.001},
        }
    )
    torch.manual_seed(0)
    model = Jagged(split.schema, embedding_dim=8)
    return Trainer(model, split, None, config, folder / layout, Log(), world, layout)


def result(trainer: Trainer, report: FitReport, dataset: PreparedDataset) -> dict[str, object]:
    """Losses and logits, which must not depend on the number of processes."""
    logits = trainer.predict(dataset.split("fold_3").held_out_rows, "scoring")
    return {"losses": [epoch.loss for epoch in report.progress.epochs], "logits": logits.tolist()}


def fit_all(dataset: PreparedDataset, out: Path, world: World) -> None:
    """Fits every layout."""
    results, plans = {}, {}
    for layout in LAYOUTS:
        trainer = make(dataset, layout, out, world)
        results[layout] = result(trainer, trainer.fit(), dataset)
        plans[layout] = {
            f"{path}.{table}": sharding.sharding_type
            for path, tables in trainer._updater.sharded.plan.plan.items()
            for table, sharding in tables.items()
        }
    if world.is_main:
        (out / "results.json").write_text(json.dumps({"results": results, "plans": plans}))


def fit_linear(dataset: PreparedDataset, out: Path, world: World) -> None:
    """Fits DCN V2 with a linear part, whose tables are sharded by rows."""
    split = dataset.split("fold_3")
    tables = {"*": {"optimizer": "rowwise_adagrad", "sharding": ["row_wise"]}}
    config = TrainerConfig.model_validate(
        {"epochs": 2, "batch_size": 100, "learning_rate": 0.01, "precision": "fp32", "embeddings": {"tables": tables}}
    )
    torch.manual_seed(0)
    model = DCNv2(DCNv2Config(embedding_dim=8, hidden_dims=(16,), dropout=0.0, linear_part=True), split.schema)
    trainer = Trainer(model, split, None, config, out / "linear", Log(), world, "linear")
    report = trainer.fit()
    shares = [epoch.linear_share for epoch in report.progress.epochs]
    found = result(trainer, report, dataset) | {"shares": shares}
    if world.is_main:
        (out / "linear.json").write_text(json.dumps(found))


def kill(dataset: PreparedDataset, out: Path, world: World) -> None:
    """Kills a fit of the mixed layout, which leaves a checkpoint."""
    trainer = make(dataset, "mixed", out / "killed", world)
    kill_at(trainer, trainer._n_batches + 2)  # in the second epoch
    try:
        trainer.fit()
    except Killed:
        return
    raise AssertionError("the fit was not killed")


def resume(dataset: PreparedDataset, out: Path, world: World) -> dict[str, object]:
    """Resumes the fit that `kill` stopped."""
    assert tensor_names(out / "killed" / "mixed-a") or tensor_names(out / "killed" / "mixed-b")
    trainer = make(dataset, "mixed", out / "killed", world)
    report = trainer.fit()
    found = result(trainer, report, dataset)
    if world.is_main:
        (out / "resumed.json").write_text(json.dumps(found))
    return found


def main() -> None:
    """Runs the tasks named on the command line."""
    dataset, out, tasks = PreparedDataset.open(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
    world = join_world()
    for task in tasks:
        {"fit": fit_all, "linear": fit_linear, "kill": kill, "resume": resume}[task](dataset, out / task, world)


if __name__ == "__main__":
    main()
