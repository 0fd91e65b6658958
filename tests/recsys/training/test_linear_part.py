"""The linear part of deep models: its fit, its share, and what training leaves alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ranking.models import build_model, config_class
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.defaults import DataSize, SharePrior
from recsys.evaluation.logits import LogitLink
from recsys.nn.linear_part import LinearPart, linear_part_of
from recsys.system.world import join_world
from recsys.training.checkpoint import load_tensors
from recsys.training.config import TrainerConfig
from recsys.training.linear_part import STD_FACTOR, Inputs, Mixture, fit_linear_part, fit_random_effects
from recsys.training.log import Log
from recsys.training.trainer import Trainer
from tests.helpers.sharded import with_tables
from tests.helpers.small import prepare_small, small_table
from tests.helpers.training import quick


def one_hot(*ids: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """The columns of features by their ids, and the feature of each column."""
    sizes = [int(values.max()) + 1 for values in ids]
    columns = [
        sparse.csr_matrix((np.ones(len(v)), (np.arange(len(v)), v)), (len(v), n))
        for v, n in zip(ids, sizes, strict=True)
    ]
    return sparse.hstack(columns, format="csr"), np.repeat(np.arange(len(ids)), sizes)


def inputs(*ids: np.ndarray) -> tuple[Inputs, np.ndarray]:
    """The inputs of features by their ids, and the feature of each column."""
    x, feature = one_hot(*ids)
    return Inputs(x, np.zeros((x.shape[0], 0), np.float32)), feature


def effects(seed: int = 0, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids of two features with 400 values: effects of standard deviation 1 and none; labels, and true logits."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 400, (2, n))
    logit = rng.normal(0, 1.0, 400)[first] - 1
    return first, second, (rng.random(n) < expit(logit)).astype(np.float64), logit


def test_standard_deviations_are_those_of_the_effects() -> None:
    first, second, label, _ = effects()
    fit = fit_random_effects(*inputs(first, second), label)
    assert fit.std[0] == pytest.approx(1.0, abs=0.15)
    assert fit.std[1] < 0.15


def test_logits_are_nearer_to_the_truth_than_with_any_one_penalty() -> None:
    first, second, label, truth = effects(n=6000)
    x, _ = one_hot(first, second)
    fit = fit_random_effects(*inputs(first, second), label)

    def error(logit: np.ndarray) -> float:
        return float(np.mean((logit - truth) ** 2))

    penalties = [0.03, 0.1, 0.3, 1.0, 3.0]
    others = [error(LogisticRegression(C=c, solver="liblinear").fit(x, label).decision_function(x)) for c in penalties]
    assert error(x @ fit.weights + fit.bias) < 0.85 * min(others)


def test_weights_are_those_of_scikit_learn_with_the_same_penalties() -> None:
    """A column times s with a penalty of one is a column with a penalty of 1 / s^2."""
    first, second, label, _ = effects(n=3000)
    x, feature = one_hot(first, second)
    row_weight = np.random.default_rng(1).exponential(size=len(label))
    fit = fit_random_effects(*inputs(first, second), label, row_weight)
    std = STD_FACTOR * fit.std[feature]
    scaled = x @ sparse.diags(std)
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(scaled, label, row_weight)
    assert np.allclose(fit.weights, reference.coef_[0] * std, atol=0.02)
    assert fit.bias == pytest.approx(reference.intercept_[0], abs=0.02)


def part_of(split: Split, link: LogitLink) -> tuple[torch.nn.Module, LinearPart]:
    """A model whose linear part is fitted to a split."""
    config = config_class("dcnv2").model_validate({"embedding_dim": 4}).resolved(DataSize(2000, 400))
    model = with_tables(build_model(config, split.schema))
    part = linear_part_of(model)
    assert part is not None
    fit_linear_part(part, split, split.fit_rows, link, seed=0)
    return model.eval(), part


def test_the_part_computes_the_regression_in_the_scale_of_the_model(small: PreparedDataset) -> None:
    split = small.split("fold_0")
    rows = split.fit_rows.numbers()
    model, part = part_of(split, LogitLink(trained_weight=3.0, balancing_weight=3.0))
    part.share.fill_(1.0)
    with torch.no_grad():
        logits = model(batch := split.batch(rows, ("seen",))).numpy()
    ids, numbers = split.table(rows)
    x, feature = one_hot(*ids.T)
    dense = batch.dense.numpy()
    group = np.concatenate([feature, np.full(dense.shape[1], feature.max() + 1)])
    fit = fit_random_effects(Inputs(x, dense), group, split.store.labels(rows).astype(float))
    expected = x @ fit.weights[: x.shape[1]] + dense @ fit.weights[x.shape[1] :] + fit.bias + np.log(3.0)
    assert numbers.shape[1] > 0
    assert np.allclose(logits, expected, atol=0.05)
    assert logits.std() > 0.5


def test_unseen_ids_score_like_the_average(small: PreparedDataset) -> None:
    """An id without fitting rows has the weight zero, the mean of the effects."""
    split = small.split("fold_0")
    _, part = part_of(split, LogitLink(1.0, 1.0))
    tables = part.ids.state_dict()
    table = next(value for name, value in tables.items() if "shop" in name)
    seen = np.unique(split.table(split.fit_rows.numbers())[0][:, split.schema.categorical.index("shop")])
    unseen = np.setdiff1d(np.arange(len(table)), seen)
    assert torch.all(table[torch.from_numpy(unseen)] == 0)
    assert torch.any(table != 0)


@pytest.mark.parametrize(("better", "expected"), [("linear", 1.0), ("network", 0.0), ("sampled", 1.0)])
def test_the_share_follows_the_better_of_both(small: PreparedDataset, better: str, expected: float) -> None:
    """Also in a log with a hundredth of the negatives: its labels are those of the log, not of the full one."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 20_000)
    label = (rng.random(20_000) < expit(truth)).astype(np.int8)
    noise = 3 * truth if better == "sampled" else rng.normal(0, 2, 20_000)  # too sure of itself
    logits = {1.0: noise if better == "network" else truth, 0.0: truth if better == "network" else noise}
    _, part = part_of(small.split("fold_0"), LogitLink(1.0, 1.0))
    link = LogitLink(1.0, 1.0, sampling_rate=0.01 if better == "sampled" else 1.0)
    mixture = Mixture(part, link, SharePrior(0.5, 0.25))
    mixed, share = mixture.choose(lambda: logits[float(part.share)], label, None)
    assert share == pytest.approx(expected, abs=0.05)
    assert float(part.share) == pytest.approx(share)
    assert np.allclose(mixed, logits[expected], atol=0.5)


@pytest.mark.parametrize(("mean", "expected"), [(0.5, (0.4, 0.7)), (0.75, (0.65, 0.85))])
def test_a_few_rows_leave_the_share_near_its_prior(
    small: PreparedDataset, mean: float, expected: tuple[float, float]
) -> None:
    _, part = part_of(small.split("fold_0"), LogitLink(1.0, 1.0))
    logits = {1.0: np.array([1.0, -1.0, 0.5]), 0.0: np.array([-1.0, 0.0, 0.5])}
    mixture = Mixture(part, LogitLink(1.0, 1.0), SharePrior(mean, 0.25))
    _, share = mixture.choose(lambda: logits[float(part.share)], np.array([1, 0, 0]), None)
    assert expected[0] <= share <= expected[1]


def fitted(dataset: PreparedDataset, linear_part: bool, folder: Path, **settings: object) -> tuple[Trainer, float]:
    """A trained DCN V2 and the log loss of the held-out rows."""
    split = dataset.split("fold_0")
    settings = {"precision": "fp32", "early_stopping": {"patience": 5}, **settings}
    config = TrainerConfig.model_validate(quick().model_dump() | settings)
    model_config = config_class("dcnv2").model_validate({"linear_part": linear_part, "hidden_dims": [16]})
    torch.manual_seed(0)
    trainer = Trainer(
        build_model(model_config, split.schema), split, None, config, folder / "weights", Log(), join_world(), "fit"
    )
    report = trainer.fit()
    rows = split.held_out_rows
    natural = report.link.logits(trainer.predict(rows, "scoring")).natural
    label = split.store.labels(rows.numbers())
    return trainer, float(np.mean(np.logaddexp(0, natural) - label * natural))


def test_training_reads_the_part_in_evaluation_alone(small: PreparedDataset, tmp_path: Path) -> None:
    """The network is the same with and without a part: it is trained apart."""
    with_part, _ = fitted(small, True, tmp_path / "a")
    without, _ = fitted(small, False, tmp_path / "b")
    states = [{k: v for k, v in t.model.state_dict().items() if "linear_part" not in k} for t in (with_part, without)]
    # the epoch that is kept may differ, as the mixture is what is monitored: compare the first epoch's losses
    losses = [[epoch.loss for epoch in t._progress.epochs] for t in (with_part, without)]
    n = min(map(len, losses))
    assert losses[0][:n] == losses[1][:n]
    assert states[0].keys() == states[1].keys()
    shares = [epoch.linear_share for epoch in with_part._progress.epochs]
    assert all(share is not None and 0 <= share <= 1 for share in shares)


def test_a_mixture_is_better_where_effects_are_additive(tmp_path: Path) -> None:
    table = small_table(3000)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out")
    short = {"epochs": 1, "batch_size": 100}
    _, mixed = fitted(dataset, True, tmp_path / "a", **short)
    _, alone = fitted(dataset, False, tmp_path / "b", **short)
    assert mixed < alone - 0.005


def test_the_focal_loss_has_no_part(small: PreparedDataset, tmp_path: Path) -> None:
    trainer, _ = fitted(small, True, tmp_path, loss={"name": "focal"})
    part = linear_part_of(trainer.model)
    assert part is not None
    assert float(part.share) == 0.0
    assert all(epoch.linear_share is None for epoch in trainer._progress.epochs)


def test_the_last_fit_reads_the_monitored_rows(small: PreparedDataset, tmp_path: Path) -> None:
    """After it the part is that of all fitting rows; the share, the network and what is saved follow."""
    trainer, _ = fitted(small, True, tmp_path)
    split, part = small.split("fold_0"), linear_part_of(trainer.model)
    assert part is not None
    assert trainer.monitored_rows is not None
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.refit_linear_part()
    after = trainer.model.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("linear_part.") for name in changed - {"linear_part.share"})
    assert "linear_part.share" not in changed
    _, of_all = part_of(split, trainer.link)
    batch = split.batch(split.held_out_rows.numbers(), ())
    of_all.share.fill_(1.0)
    part.share.fill_(1.0)
    with torch.no_grad():
        expected, found = (
            one.mixed(torch.zeros(len(batch)), one.ids.look_up(batch), batch.dense) for one in (of_all, part)
        )
    assert np.allclose(found, expected, atol=0.02)
    bias = part.bias.clone()
    load_tensors(tmp_path / "weights", trainer._updater.sharded.state_dict())
    assert torch.equal(part.bias, bias)
