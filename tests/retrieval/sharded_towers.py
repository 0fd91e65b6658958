"""Fits the same towers with replicated and with sharded tables; the tests run it alone and under torchrun.

python -m tests.retrieval.sharded_towers PREPARED OUT
"""

import json
import sys
from pathlib import Path

from recsys.data.dataset import PreparedDataset
from recsys.system.world import World, join_world
from recsys.training.log import Log
from retrieval.catalog import build_catalog
from retrieval.config import RetrievalTrainerConfig
from retrieval.fit import build_retrieval_trainer, load_towers
from retrieval.two_tower import TwoTowerConfig

SPREAD = {"*": {"optimizer": "rowwise_adagrad", "sharding": ["row_wise"]}}
LAYOUTS: dict[str, dict[str, object]] = {"copied": {}, "row_wise": SPREAD}


def fit_all(dataset: PreparedDataset, out: Path, world: World) -> None:
    """Fits each layout; writes losses and vectors. The odd last batch gives two processes different numbers of rows."""
    split = dataset.split("full")
    catalog = build_catalog(split, split.fit_rows, [], False)
    model = TwoTowerConfig(embedding_dim=8, output_dim=8, user_hidden_dims=(16,), item_hidden_dims=(16,), dropout=0)
    results = {}
    for layout, tables in LAYOUTS.items():
        config = RetrievalTrainerConfig.model_validate(
            {
                "epochs": 2,
                "batch_size": 59,
                "learning_rate": 0.01,
                "precision": "fp32",
                "eval_batch_size": 50,
                "embeddings": {"tables": tables},
            }
        )
        assert len(split.fit_rows) % config.batch_size % 2 == 1
        trainer = build_retrieval_trainer(
            model, config, "all", split, split.fit_rows, catalog, None, False, out / layout, Log(), world, layout
        )
        report = trainer.fit()
        towers = load_towers(model, config, split, catalog, out / layout, world)
        results[layout] = {
            "losses": [epoch.loss for epoch in report.progress.epochs],
            "items": towers.item_vectors(catalog).tolist(),
            "requests": towers.request_vectors(split.fit_rows)[:99].tolist(),
        }
    if world.is_main:
        (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    fit_all(PreparedDataset.open(Path(sys.argv[1])), Path(sys.argv[2]), join_world())
