"""The GPU benchmark, rehearsed on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmarks.gpu.__main__ import table
from benchmarks.gpu.card import bf16_rate, copy_rate, profiled
from benchmarks.gpu.cases import Name, cases
from benchmarks.gpu.rates import Case, make_trainer, plain_rate, trainer_rates
from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from retrieval.two_tower import TwoTowerConfig

CASE = Case(DCNv2Config(embedding_dim=4, hidden_dims=(16,)), 200, {"compile": "off"})


def test_rates_of_the_trainer_and_of_plain_pytorch(small: PreparedDataset) -> None:
    split, world = small.split("full"), join_world()
    rates = trainer_rates(CASE, split, world, n_steps=2)
    assert rates.trainer > 0
    assert rates.step > 0
    assert rates.profile is None  # without a GPU
    assert plain_rate(CASE, split, world.device, is_compiled=False, is_graphed=True, n_steps=2) > 0


def test_every_model_is_measured_at_both_sizes() -> None:
    models = set(Name) - {Name.PLAIN, Name.PARITY}
    assert cases(is_small=True).keys() == cases(is_small=False).keys() == models


def test_the_card() -> None:
    device = join_world().device
    assert bf16_rate(device) > 0
    assert copy_rate(device) > 0
    assert profiled(lambda: None, 1, device) is None


def test_the_table_has_a_row_for_each_rate() -> None:
    profile = {"launches": 80.0, "waits": 0.0, "busy_ms": 4.5}
    ours = {"kind": "ours", "model": "dcnv2", "batch_size": 65536, "compile": "on", "trainer": 1.02e7, "step": 1.4e7}
    plain = {"kind": "plain", "model": "dcnv2", "batch_size": 16384, "compiled": True, "graph": True, "step": 6.4e6}
    console = Console(width=160)
    with console.capture() as printed:
        console.print(table([ours | {"peak_gib": 3.9, "profile": profile}, {"kind": "card"}, plain]))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.get().splitlines()]
    assert ["dcnv2", "65,536", "on", "10,200,000", "14,000,000", "80.0", "0.0", "4.5", "3.9"] in rows
    assert ["plain dcnv2, graph", "16,384", "True", "", "6,400,000", "", "", "", ""] in rows


@pytest.mark.gpu
def test_a_profile_counts_launches() -> None:
    device = join_world().device
    x = torch.ones(8, device=device)
    counted = profiled(lambda: x.add_(1), 2, device)
    assert counted is not None
    assert counted.launches == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (DINConfig(dropout=0), {}),
        (TwoTowerConfig(dropout=0), {"loss": {"full_catalog": True}}),
        (TwoTowerConfig(dropout=0), {}),
    ],
    ids=["din", "two_tower", "in_batch"],
)
def test_compiled_kernels_train_the_same_model(
    shops: PreparedDataset, tmp_path: Path, model: Any, settings: dict[str, Any]
) -> None:
    """Shapes that vary with the events, and a loss with a backward pass of its own."""
    losses = []
    for is_compiled in ("off", "on"):
        case = Case(model, 200, {"compile": is_compiled, "precision": "fp32", **settings})
        trainer = make_trainer(case, shops.split("full"), join_world(), 3, tmp_path / is_compiled)
        losses.append([epoch.loss for epoch in trainer.fit().progress.epochs])
    assert losses[1] == pytest.approx(losses[0], abs=2e-4)
    assert losses[0][-1] < losses[0][0]
