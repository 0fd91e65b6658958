from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.batch import Batch
from recsys.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.metrics import Metrics
from recsys.training.config import EarlyStopping, TrainerConfig
from recsys.training.optimizers import learning_rate_at, make_optimizer
from recsys.training.predict import evaluate, predict
from recsys.training.trainer import FitReport, Trainer, composite
from tests.conftest import prepare_small, small_table

QUICK = TrainerConfig(epochs=4, batch_size=100, learning_rate=0.01, precision="fp32")


def ignore(tag: str, value: float, step: int) -> None:
    pass


def trainer_of(
    dataset: PreparedDataset, split: str, config: TrainerConfig, folder: Path, model: nn.Module | None = None
) -> Trainer:
    torch.manual_seed(0)
    chosen = dataset.split(split)
    model = model or DCNv2(DCNv2Config(embedding_dim=4, hidden_dims=(16,)), chosen.schema)
    return Trainer(model, chosen, None, config, folder / "weights", Log(), join_world(), "test")


def fit(dataset: PreparedDataset, split: str, config: TrainerConfig, folder: Path) -> tuple[Trainer, FitReport]:
    trainer = trainer_of(dataset, split, config, folder)
    return trainer, trainer.fit()


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def test_learning_rate_warms_up_and_falls_by_a_cosine() -> None:
    config = TrainerConfig(learning_rate=1.0, warmup_fraction=0.1, final_learning_rate_fraction=0.2)
    rates = [learning_rate_at(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.6)  # half-way down from 1 to .2
    assert rates[100] == pytest.approx(0.2)


def test_decay_on_matrices_alone(small: PreparedDataset) -> None:
    model = DCNv2(DCNv2Config(), small.split("full").schema)
    decayed, free = make_optimizer(model, TrainerConfig(weight_decay=0.1)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert all(names[id(p)].endswith("weight") and "embedding" not in names[id(p)] for p in decayed["params"])
    assert all(names[id(p)].endswith("bias") or "embedding" in names[id(p)] for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_what_can_be_learned(small: PreparedDataset, precision: str) -> None:
    config = QUICK.model_copy(update={"precision": precision})
    model, report = fit(small, "fold_0", config)
    split = small.split("fold_0")
    metrics = evaluate(model, split, split.held_out_rows, report.shift, config)
    assert metrics.roc_auc is not None
    assert metrics.roc_auc > 0.75
    assert report.epochs[-1].loss < report.epochs[0].loss


def test_p_is_unbiased_under_the_weighted_loss(tmp_path: Path) -> None:
    """Trained with a weight of 20 on data of known p, the natural probabilities average to the click rate."""
    dataset = prepare_small(small_table(20_000), tmp_path / "raw", tmp_path / "out")
    config = QUICK.model_copy(update={"pos_weight": 20.0, "batch_size": 500, "early_stopping": None})
    model, report = fit(dataset, "fold_0", config)
    split = dataset.split("fold_0")
    logit = predict(model, split, split.held_out_rows, config)
    label = dataset.labels(split.held_out_rows(np.arange(len(logit))))
    p = 1 / (1 + np.exp(-report.shift.natural_logit(logit)))
    assert np.mean(1 / (1 + np.exp(-logit))) > 2 * label.mean()
    assert p.mean() == pytest.approx(label.mean(), rel=0.08)


def test_the_same_seed_gives_the_same_model(small: PreparedDataset) -> None:
    (a, report_a), (b, report_b) = fit(small, "fold_0", QUICK), fit(small, "fold_0", QUICK)
    assert [epoch.loss for epoch in report_a.epochs] == [epoch.loss for epoch in report_b.epochs]
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_early_stopping_keeps_the_best_epoch(small: PreparedDataset) -> None:
    # A wild learning rate overfits 1,600 rows within an epoch or two.
    config = TrainerConfig(epochs=30, batch_size=50, learning_rate=0.05, warmup_fraction=0, precision="fp32")
    stopping = EarlyStopping(weights={"logloss": -1.0}, patience=2, holdout_fraction=0.2)
    config = config.model_copy(update={"early_stopping": stopping})
    _, report = fit(small, "fold_0", config)
    values = [epoch.monitored for epoch in report.epochs]
    assert len(values) == report.best_epoch + 3 < 30
    assert values[report.best_epoch] == max(value for value in values if value is not None)


def test_early_stopping_never_sees_the_rows_that_are_reported(small: PreparedDataset, tmp_path: Path) -> None:
    """With the held-out fold's labels turned over, training and stopping go exactly as before."""
    table = small_table()
    split = small.split("fold_2")
    held_out = set(split.held_out_rows(np.arange(len(split.held_out_rows))).tolist())
    label = [1 - y if row in held_out else y for row, y in enumerate(table["click"].to_pylist())]
    turned = table.set_column(table.column_names.index("click"), "click", [np.array(label, np.int8)])
    other = prepare_small(turned, tmp_path / "raw", tmp_path / "out")
    (a, report_a), (b, report_b) = fit(small, "fold_2", QUICK), fit(other, "fold_2", QUICK)
    assert [epoch.monitored for epoch in report_a.epochs] == [epoch.monitored for epoch in report_b.epochs]
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_no_early_stopping_trains_on_all_rows(small: PreparedDataset) -> None:
    _, report = fit(small, "fold_0", QUICK.model_copy(update={"early_stopping": None, "epochs": 1}))
    assert report.n_rows == len(small.split("fold_0").fit_rows)
    _, report = fit(small, "fold_0", QUICK.model_copy(update={"epochs": 1}))
    assert report.n_rows < len(small.split("fold_0").fit_rows)


def test_an_infinite_loss_says_what_to_do(small: PreparedDataset) -> None:
    class Broken(nn.Module):
        sequences = ()

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(float("inf")))

        def forward(self, batch: Batch) -> torch.Tensor:
            return self.scale * batch.dense[:, 0]

    with pytest.raises(InputError, match="the loss is nan at step .*: lower trainer.learning_rate"):
        Trainer(Broken(), small.split("full"), None, QUICK, ignore, "test").fit()


def test_composite_weighs_metrics() -> None:
    metrics = Metrics(
        n_rows=10, n_positive=5, ap=0.5, wll=0.6, roc_auc=0.7, pr_auc=0.5, logloss=0.6, ece=0.1, score=0.4
    )
    assert composite(metrics, {"ap": 2.0, "wll": -1.0}) == pytest.approx(0.4)


def test_composite_of_an_undefined_metric_says_what_to_do() -> None:
    with pytest.raises(InputError, match="ap is undefined on the 10 monitored rows"):
        composite(Metrics(n_rows=10, n_positive=0), {"ap": 1.0})
