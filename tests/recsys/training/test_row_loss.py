"""The self-ensemble loss and the losses of branches, against hand computations and whole-batch updates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit
from torch import Tensor, nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from ranking.xdeepfm import XDeepFM, XDeepFMConfig
from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.nn.layers import mean_logit
from recsys.training.losses import FocalLoss, WeightedLogLoss, branch_losses
from recsys.training.task import RowLoss
from recsys.training.update.step import Step
from tests.helpers.jagged_model import Jagged
from tests.helpers.sharded import with_tables
from tests.helpers.step import Setup
from tests.helpers.training import assert_same, fit, quick, weights_of

LABEL = [1.0, 0.0, 0.0, 1.0]
FIRST, SECOND = [0.3, -1.0, 2.0, -0.7], [-0.4, -2.0, 1.0, 0.9]


class Scripted(nn.Module):
    """Returns the given logits, one set after another."""

    def __init__(self, *logits: Tensor) -> None:
        super().__init__()
        self.logits, self.dropout, self.n_passes = logits, nn.Dropout(0.5), 0

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        self.n_passes += 1
        return self.logits[(self.n_passes - 1) % len(self.logits)]


class Alternating(Jagged):
    """Halves the logits of every second pass: two passes differ, as by dropout, in a way that is known."""

    def __init__(self, model: Jagged) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(model.__dict__)
        self.dropout, self.n_passes = nn.Dropout(0.1), 0

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        self.n_passes += 1
        return super().forward(batch) * (0.5 if self.n_passes % 2 == 0 else 1.0)


def a_batch(dataset: PreparedDataset, n: int = 4) -> Batch:
    batch = dataset.split("full").batch(np.arange(n), ())
    return replace(batch, label=torch.tensor(LABEL)) if n == len(LABEL) else batch


def test_mean_logit_is_that_of_the_mean_probability() -> None:
    z1, z2 = np.array([0.3, -4.0, 60.0, -80.0]), np.array([-2.0, 1.0, -60.0, -82.0])
    log_mean = np.logaddexp(log_expit(z1), log_expit(z2)) - np.log(2)
    expected = log_mean - np.log(-np.expm1(log_mean))
    found = mean_logit(torch.from_numpy(np.stack([z1, z2]))).numpy()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert expit(found[:2]) == pytest.approx((expit(z1) + expit(z2))[:2] / 2)


@pytest.mark.parametrize("loss", [WeightedLogLoss(3.0), FocalLoss(2.0, 0.9)], ids=["log_loss", "focal"])
def test_self_ensemble_loss_and_its_gradient_by_hand(small: PreparedDataset, loss: nn.Module) -> None:
    first, second = (torch.tensor(z, requires_grad=True) for z in (FIRST, SECOND))
    losses = RowLoss(Scripted(first, second), loss, self_ensemble=0.5)(a_batch(small))
    losses.sum().backward()
    v1, v2, y = expit(FIRST), expit(SECOND), np.array(LABEL)
    v = (v1 + v2) / 2
    if isinstance(loss, WeightedLogLoss):
        of_mean = -3 * y * np.log(v) - (1 - y) * np.log(1 - v)
        slope = -3 * y / v + (1 - y) / (1 - v)
    else:
        of_mean = -0.9 * y * (1 - v) ** 2 * np.log(v) - 0.1 * (1 - y) * v**2 * np.log(1 - v)
        slope = 0.9 * y * (2 * (1 - v) * np.log(v) - (1 - v) ** 2 / v)
        slope += 0.1 * (1 - y) * (-2 * v * np.log(1 - v) + v**2 / (1 - v))
    against_mean = sum(-v * np.log(each) - (1 - v) * np.log(1 - each) for each in (v1, v2))
    assert losses.detach().numpy() == pytest.approx(of_mean + 0.5 * against_mean, rel=1e-5)
    for logits, each in ((first, v1), (second, v2)):
        assert logits.grad is not None
        assert logits.grad.numpy() == pytest.approx(slope * each * (1 - each) / 2 + 0.5 * (each - v), abs=1e-6)


def test_off_is_the_loss_of_one_pass(small: PreparedDataset) -> None:
    model = Scripted(torch.tensor(FIRST), torch.tensor(SECOND))
    losses = RowLoss(model, WeightedLogLoss(3.0))(a_batch(small))
    assert torch.equal(losses, WeightedLogLoss(3.0)(torch.tensor(FIRST), torch.tensor(LABEL)))
    assert model.n_passes == 1


def self_ensemble_setup(small: PreparedDataset, **settings: object) -> tuple[Setup, Alternating]:
    setup = Setup(small, precision="fp32", **settings)
    assert isinstance(setup.model, Jagged)
    model = Alternating(setup.model)
    objective = RowLoss(model, WeightedLogLoss(3.0), self_ensemble=0.7)
    setup.step = Step(objective, setup.step._mixout, "fp32", setup.config.micro_batches, setup.step._world)
    setup.pipeline._step = setup.step  # type: ignore[attr-defined]
    return setup, model


def test_a_step_looks_up_once_and_updates_tables_by_both_passes(small: PreparedDataset) -> None:
    setup, model = self_ensemble_setup(small, gradient_clip=None)
    look_ups = []
    forward = model.pooled.collection.register_forward_hook(lambda *_: look_ups.append(1))
    setup.batches = setup.batches[:1]
    before, batch = setup.weights(), setup.batches[0]
    setup.step.table_step(setup.step.dense_step(batch, len(batch))[1])
    assert (len(look_ups), model.n_passes) == (1, 2)
    forward.remove()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for parameter in model.parameters():
        parameter.grad = None
    z1, z2 = Jagged.forward(model, batch), Jagged.forward(model, batch) / 2  # with a look-up each, and plain autograd
    v = (z1.sigmoid() + z2.sigmoid()) / 2
    losses = -3 * batch.label * v.log() - (1 - batch.label) * (1 - v).log()
    for z in (z1, z2):
        losses = losses + 0.7 * nn.functional.binary_cross_entropy(z.sigmoid(), v.detach(), reduction="none")
    losses.mean().backward()
    assert found.keys() >= {"head.linear.weight"}
    assert found.keys() == before.keys()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, atol=1e-6), name


def test_micro_batches_give_the_self_ensemble_update_of_the_whole_batch(small: PreparedDataset) -> None:
    whole, parts = (self_ensemble_setup(small, micro_batches=n)[0].run() for n in (1, 4))
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-5), name


def test_branch_losses_by_hand() -> None:
    """Means over real rows with weights 1, 3: whole .5, branches .8 and .2; the second one is no worse."""
    losses, weight = torch.tensor([0.2, 0.6, 99.0]), torch.tensor([1.0, 3.0, 0.0])
    of_branches = torch.tensor([[0.5, 0.9, 99.0], [0.8, 0.0, 0.0]], requires_grad=True)
    found = branch_losses(losses, of_branches, weight)
    assert found[:2].tolist() == pytest.approx([(0.8 - 0.5) * 0.5, (0.8 - 0.5) * 0.9])
    found[:2].sum().backward()
    assert of_branches.grad is not None
    assert of_branches.grad[:, :2].tolist() == [pytest.approx([0.3, 0.3]), pytest.approx([0.0, 0.0])]


def test_losses_are_float32_under_autocast(small: PreparedDataset) -> None:
    """A loss in bf16 would have two decimal digits."""
    first, second, batch = torch.tensor(FIRST), torch.tensor(SECOND), a_batch(small)
    of_branches = torch.stack([first + 1, second + 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = RowLoss(Scripted(first, second), WeightedLogLoss(3.0), self_ensemble=1.0)(batch)
        extra = branch_losses(first, of_branches, torch.ones(4))
    assert torch.equal(found, RowLoss(Scripted(first, second), WeightedLogLoss(3.0), self_ensemble=1.0)(batch))
    assert torch.equal(extra, branch_losses(first, of_branches, torch.ones(4)))


def branched_models(dataset: PreparedDataset) -> list[DCNv2 | XDeepFM]:
    torch.manual_seed(0)
    schema = dataset.split("full").schema
    crosses = DCNv2(DCNv2Config(embedding_dim=4, embedding_init_std=0.5, hidden_dims=(8,)), schema)
    config = XDeepFMConfig(embedding_dim=4, embedding_init_std=0.5, hidden_dims=(8,), cin_dims=(6, 4))
    return [with_tables(crosses), with_tables(XDeepFM(config, schema))]


def test_the_mean_of_branches_is_the_logit_and_each_is_computed_by_hand(small: PreparedDataset) -> None:
    for model in branched_models(small):
        model.eval()
        batch = small.split("full").batch(np.arange(20), model.sequences)
        with torch.no_grad():
            logits, logits_KB = model.with_branches(batch)
            assert torch.allclose(logits, model(batch), atol=1e-6)
            assert torch.allclose(logits_KB.mean(dim=0), logits, atol=1e-5)
            assert len(logits_KB) == len(model.branches)
            model.head.linear.weight[0, : model.head.d_in[0]] = 0.0  # without its weights the first branch is constant
            assert torch.allclose(model.with_branches(batch)[1][0], model.head.linear.bias.expand(20))
            assert torch.allclose(model.with_branches(batch)[1][1:], logits_KB[1:])


def test_branches_have_losses_of_their_own(small: PreparedDataset) -> None:
    for model in branched_models(small):
        model.eval()
        batch = small.split("full").batch(np.arange(50), model.sequences)
        is_real = torch.arange(50) < 40
        batch = replace(batch, is_real=is_real, weight=torch.linspace(0.5, 1.5, 50))
        loss = WeightedLogLoss(3.0)
        logits, logits_KB = model.with_branches(batch)
        whole = loss(logits, batch.label)
        expected, weight = whole.clone(), batch.weight[:40]  # type: ignore[index]
        for branch in logits_KB:
            losses = loss(branch, batch.label)
            excess = ((losses - whole)[:40] * weight).sum() / weight.sum()
            expected = expected + 2.0 * max(0.0, float(excess)) * losses
        assert not torch.allclose(expected, whole)
        assert torch.allclose(RowLoss(model, loss, branches=2.0)(batch), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_with_both_losses(small: PreparedDataset, tmp_path: Path, precision: str) -> None:
    trained = {}
    for name, loss in (("off", {}), ("zero", {"self_ensemble": 0.0}), ("on", {"self_ensemble": 1, "branches": 1})):
        config = quick(epochs=2, precision=precision, loss=loss, micro_batches=2)
        trainer, report = fit(small, "fold_0", config, tmp_path / name)
        assert report.progress.n_skipped == 0
        trained[name] = weights_of(trainer)
    assert_same(trained["off"], trained["zero"])
    assert not torch.equal(trained["off"]["head.linear.weight"], trained["on"]["head.linear.weight"])


def test_models_without_what_a_loss_needs_are_refused(small: PreparedDataset) -> None:
    schema, loss = small.split("full").schema, WeightedLogLoss(1.0)
    stacked = DCNv2(DCNv2Config(structure="stacked", hidden_dims=(8,), dropout=0.0), schema)
    with pytest.raises(InputError, match="needs a model with dropout.*DCNv2 has none: raise model.dropout"):
        RowLoss(stacked, loss, self_ensemble=1.0)
    with pytest.raises(InputError, match="branches needs a model with parallel branches, and DCNv2 has none"):
        RowLoss(stacked, loss, branches=1.0)
    with pytest.raises(InputError, match="and Jagged has none"):
        RowLoss(Jagged(schema), loss, branches=1.0)
    both = DCNv2(DCNv2Config(hidden_dims=(8,)), schema)
    both.auxiliary_weight, both.with_auxiliary = 0.5, both.with_branches  # type: ignore[assignment]
    with pytest.raises(InputError, match="DCNv2 has an auxiliary loss"):
        RowLoss(both, loss, branches=1.0)
