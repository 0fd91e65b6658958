"""Weighted losses: whole weights equal repeated rows, in values and gradients, for any number of micro-batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.split import Prior, Split
from recsys.errors import InputError
from recsys.evaluation.metrics import measure
from recsys.training.config import LossConfig
from recsys.training.losses import build_loss
from recsys.training.predict import evaluate
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.step import N_ROWS, Setup
from tests.helpers.training import quick, trainer_of

WEIGHTS = np.random.default_rng(0).integers(0, 4, 2000)


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("weighted")
    table = small_table().append_column("w", [WEIGHTS])
    return prepare_small(table, folder / "raw", folder / "prepared", small_schema(weight="w"))


def gradients(
    setup: Setup, split: Split, rows: np.ndarray, weight: torch.Tensor | None
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of a batch of rows."""
    for parameter in setup.model.parameters():
        parameter.grad = None
    batch = replace(split.batch(rows, setup.model.sequences), weight=weight)
    loss, looked_up = setup.step.dense_step(batch, len(rows))
    setup.step.table_step(looked_up)
    found = {name: p.grad.clone() for name, p in setup.model.named_parameters() if p.grad is not None}
    return float(loss), found


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_whole_weights_equal_repeated_rows(weighted: PreparedDataset, micro_batches: int) -> None:
    setup = Setup(weighted, precision="fp32", micro_batches=micro_batches)
    split, rows = weighted.split("full"), np.arange(N_ROWS)
    weight = WEIGHTS[rows] / WEIGHTS[rows].mean()
    loss, found = gradients(setup, split, rows, torch.from_numpy(weight.astype(np.float32)))
    expected_loss, expected = gradients(setup, split, np.repeat(rows, WEIGHTS[rows]), None)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name
    unweighted, _ = gradients(setup, split, rows, None)
    assert abs(unweighted - loss) > 1e-3  # so that the test can fail


def test_items_appended_to_a_batch_weigh_one(weighted: PreparedDataset) -> None:
    batch = weighted.split("full").batch(np.arange(5), ["seen"])
    items = replace(batch.take(torch.arange(2)), n_rows=0, weight=None)
    weight = batch.append_items(items).weight
    assert batch.weight is not None
    assert weight is not None
    assert weight.tolist() == [*batch.weight.tolist(), 1, 1]


def test_classes_are_balanced_by_sums_of_weights() -> None:
    prior = Prior(n_positive=2, n_negative=8, positive_weight=10.0, negative_weight=30.0)
    loss, link = build_loss(LossConfig(), prior)
    assert float(loss(torch.zeros(1), torch.ones(1))) == pytest.approx(3 * np.log(2))
    assert (link.trained_weight, link.balancing_weight, link.sampling_rate) == (3, 3, 1)
    _, focal = build_loss(LossConfig(name="focal", gamma=0.0), prior)
    assert focal.logits(np.array([np.log(3.0)])).p == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["log_loss", "focal"])
def test_sampled_negatives_shift_p_of_every_loss(name: str) -> None:
    config = LossConfig.model_validate({"name": name} | ({"gamma": 0} if name == "focal" else {}))
    whole, sampled = (build_loss(config, Prior(2, 8, sampling_rate=rate))[1] for rate in (1.0, 0.1))
    logits = np.linspace(-2, 2, 5)
    odds = [link.logits(logits).p / (1 - link.logits(logits).p) for link in (whole, sampled)]
    assert odds[1] == pytest.approx(0.1 * odds[0])
    assert sampled.logits(logits).q == pytest.approx(whole.logits(logits).q)


def test_monitored_metrics_are_weighted(weighted: PreparedDataset) -> None:
    split = weighted.split("fold_0")
    rows = split.held_out_rows
    logits = np.random.default_rng(1).normal(size=len(rows)).astype(np.float32)
    link = build_loss(LossConfig(), split.prior)[1]
    numbers = rows.numbers()
    found = evaluate(logits, split, rows, link)
    assert found == measure(weighted.store.labels(numbers), link.logits(logits), WEIGHTS[numbers].astype(np.float32))
    assert found.n_effective is not None


def test_monitored_rows_need_weight_in_both_classes(tmp_path: Path) -> None:
    table = small_table(300)
    clicks = np.flatnonzero(table["click"].to_numpy())
    weight = np.ones(300)
    weight[clicks[1:]] = 0
    dataset = prepare_small(
        table.append_column("w", [weight]), tmp_path / "raw", tmp_path / "out", small_schema(weight="w")
    )
    stopping = {"weights": {"ap": 1}, "validation_fraction": 0.05}
    with pytest.raises(InputError, match=r"ap is undefined on the 15 monitored rows .* \(0 positive\)"):
        trainer_of(dataset, "full", quick(early_stopping=stopping), tmp_path)
    fold = next(group.fold for group in dataset.groups if group.positive_weight)
    with pytest.raises(InputError, match="has fitting rows of only one class with weights above zero"):
        dataset.split(f"fold_{fold}")
