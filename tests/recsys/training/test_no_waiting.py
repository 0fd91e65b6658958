"""A step and its batches need nothing from the device, so the host never waits for it."""

from pathlib import Path

import pytest
import torch

from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.model_config import DeepModelConfig
from ranking.models import build_model
from ranking.xdeepfm import XDeepFMConfig
from recsys.data.dataset import PreparedDataset
from recsys.defaults import DataSize
from recsys.nn.traits import sequences_of
from tests.helpers.training import assert_same, quick, trainer_of, weights_of
from tests.helpers.waiting import WaitError, no_waiting

FUSED = {"tables": {"*": {"optimizer": "rowwise_adagrad"}}, "l2": 0.0}
MODELS: list[DeepModelConfig] = [
    DCNv2Config(embedding_dim=4, hidden_dims=(16,), batch_norm=True),
    XDeepFMConfig(embedding_dim=4, cin_dims=(8, 8), hidden_dims=(16,)),
    FTTransformerConfig(d_model=8, n_layers=2, n_heads=2, numeric_tokens="fourier"),
    DINConfig(embedding_dim=4, hidden_dims=(16,)),
    DCNv2Config(embedding_dim=4, hidden_dims=(16,), numeric_embeddings="piecewise_linear"),
]
LOSSES = {"self_ensemble": 1.0, "branches": 1.0}


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
@pytest.mark.parametrize("embeddings", [{"l2": 0.01}, FUSED], ids=["adamw", "fused"])
def test_a_step_reads_nothing_from_the_device(
    with_target: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: DeepModelConfig,
    embeddings: dict[str, object],
) -> None:
    model = build_model(config.resolved(DataSize(2000, 500)), with_target.split("fold_0").schema)
    loss = LOSSES if config.name in ("dcnv2", "xdeepfm") else {}
    settings = quick(data="resident", precision="bf16", embeddings=embeddings, loss=loss)
    trainer = trainer_of(with_target, "fold_0", settings, tmp_path, model)
    loader = trainer.loader(0)
    batches = iter(loader)
    model.train()
    for number in range(3):
        if number == 0:  # the first step sets up sharded modules and optimizers; the order is counted before it
            trainer.update(batches, loader.n_rows(0))
            continue
        with no_waiting(monkeypatch):
            trainer.update(batches, loader.n_rows(number))


def test_a_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(3)
    for read in (lambda: x.sum().item(), lambda: x.tolist(), lambda: bool(x[0]), lambda: x[x > 0], lambda: int(x[0])):
        with pytest.raises(WaitError), no_waiting(monkeypatch):
            read()


@pytest.mark.parametrize("shares", [0.0, 0.1])
def test_resident_rows_train_the_same_model(small: PreparedDataset, tmp_path: Path, shares: float) -> None:
    fits = {}
    for data in ("host", "resident"):
        trainer = trainer_of(small, "fold_0", quick(data=data, unseen_share=shares), tmp_path / data)
        trainer.fit()
        fits[data] = trainer
        assert sequences_of(trainer.model) == ("seen",)
    rows = small.split("fold_0").held_out_rows
    host, resident = (fits[data].predict(rows, "scoring") for data in ("host", "resident"))
    assert abs(host - resident).max() < 1e-4


def test_resident_rows_are_read_in_the_same_order(small: PreparedDataset, tmp_path: Path) -> None:
    loaders = [trainer_of(small, "fold_0", quick(data=d), tmp_path / d).loader(3) for d in ("host", "resident")]
    for a, b in zip(*loaders, strict=True):
        assert torch.equal(a.row, b.row)
        assert torch.equal(a.sparse.values(), b.sparse.values())


def test_a_killed_fit_on_resident_rows_resumes(small: PreparedDataset, tmp_path: Path) -> None:
    whole = trainer_of(small, "fold_0", quick(data="resident"), tmp_path / "whole")
    whole.fit()
    again = trainer_of(small, "fold_0", quick(data="resident"), tmp_path / "again")
    again.fit()
    assert_same(weights_of(whole), weights_of(again))
