"""A ranking model takes one file and one line in the table of models: here the file is this test."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from torch import Tensor, nn

from ranking import models
from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import LogitHead
from recsys.schema.resolved import Schema
from tests.helpers.commands import Run, read_oof

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "linear")


class LinearConfig(DeepModelConfig):
    name: Literal["linear"] = "linear"
    embedding_dim: int = 4


class Linear(nn.Module):
    """A linear model on the embeddings of categorical features and on numeric columns."""

    sequences = ()

    def __init__(self, config: LinearConfig, schema: Schema) -> None:
        super().__init__()
        self.features = PooledEmbeddings(schema, config.embedding_dim, self.sequences, init_std=0.05)
        self.head = LogitHead(len(self.features.features) * config.embedding_dim, len(schema.dense))

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        return self.head(self.features(batch), batch.dense)


@pytest.fixture
def with_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "DEEP_MODELS", [*models.DEEP_MODELS, models.DeepModel(LinearConfig, Linear)])


@pytest.mark.usefixtures("with_linear")
def test_a_new_model_is_trained_and_scores_rows(project: Path, run: Run) -> None:
    trained = run(*RANK, "--out", "out", "model.embedding_dim=8", "trainer.learning_rate=0.05")
    assert trained.code == 0, trained.err
    rows = read_oof(project / "out")
    clicked = np.array([int(row["label"]) for row in rows]) == 1
    p = np.array([float(row["p"]) for row in rows])
    assert p[clicked].mean() > 1.2 * p[~clicked].mean()
    scored = run("submit", "--run", "out", "--test", "raw/train.parquet", "--out", "scores.csv")
    assert scored.code == 0, scored.err
    assert len(Path("scores.csv").read_text().splitlines()) == len(rows) + 1


@pytest.mark.usefixtures("with_linear")
def test_a_new_model_joins_sweeps_and_rejects_unknown_settings(project: Path, run: Run) -> None:
    sweep = run("sweep", *RANK[1:], "--out", "sweep", "model.embedding_dim=2,4", "trainer.epochs=1")
    assert sweep.code == 0, sweep.err
    unknown = run(*RANK, "--out", "out", "model.depth=3")
    assert unknown.code == 2
    assert "model.depth" in unknown.err


def test_without_its_line_in_the_table_the_name_is_unknown(project: Path, run: Run) -> None:
    outcome = run(*RANK, "--out", "out")
    assert outcome.code == 2
    assert "unknown model 'linear'" in outcome.err
    assert "dcnv2" in outcome.err
