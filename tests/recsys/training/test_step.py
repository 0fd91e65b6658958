"""One update compared with a plain PyTorch loop over the whole batch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.distributed.config import EmbeddingTraining
from recsys.distributed.sharding import shard
from recsys.errors import InputError
from recsys.nn.embeddings import PooledEmbeddings
from recsys.system.world import join_world
from recsys.training.update.finite import FiniteBatches
from recsys.training.update.step import OutOfMemoryError
from tests.helpers.jagged_model import Jagged
from tests.helpers.step import Setup

ALL_FUSED = {"*": {"optimizer": "rowwise_adagrad"}}
BY_TABLE = {
    "shop": {"optimizer": "rowwise_adagrad", "sharding": ["table_wise"]},
    "seen": {"optimizer": "rowwise_adagrad", "sharding": ["row_wise"]},
}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], atol=atol), name


@pytest.mark.parametrize("tables", [{}, ALL_FUSED, BY_TABLE], ids=["adamw", "fused", "mixed"])
@pytest.mark.parametrize("micro_batches", [3, 7])
def test_micro_batches_give_the_update_of_the_whole_batch(
    small: PreparedDataset, micro_batches: int, tables: dict[str, object]
) -> None:
    embeddings = {"tables": tables, "l2": 0.01}
    whole = Setup(small, precision="fp32", embeddings=embeddings).run()
    parts = Setup(small, precision="fp32", embeddings=embeddings, micro_batches=micro_batches).run()
    assert_close(whole, parts)


def test_micro_batches_of_sorted_rows_have_both_classes(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of rows would have one class each, and batch normalization would tell the label."""
    setup = Setup(small, precision="fp32", micro_batches=4)
    batch = setup.batches[0]
    setup.batches = [batch.take(batch.label.argsort())]
    means, forward = [], Jagged.forward

    def noted(model: Jagged, part: Batch) -> Tensor:
        means.append(float(part.label.mean()))
        return forward(model, part)

    monkeypatch.setattr(Jagged, "forward", noted)
    setup.run()
    assert means == pytest.approx([float(batch.label.mean())] * 4, abs=0.05)


def test_update_agrees_with_plain_pytorch(small: PreparedDataset) -> None:
    """Reference: autograd of the whole model, torch's AdamW for the dense part, row-wise Adagrad by hand."""
    setup = Setup(small, precision="fp32", gradient_clip=None, embeddings={"tables": BY_TABLE})
    reference = setup.weights()
    dense = {name: nn.Parameter(value) for name, value in reference.items() if "shop" not in name}
    dense = {name: value for name, value in dense.items() if not name.endswith("seen.weight")}
    tables = {name: value for name, value in reference.items() if name not in dense}
    assert len(tables) == 3  # shop, and seen twice
    momentum = {name: torch.zeros(len(value)) for name, value in tables.items()}
    matrices = [value for name, value in dense.items() if name.endswith("linear.weight")]
    others = [value for name, value in dense.items() if not name.endswith("linear.weight")]
    decay = setup.config.weight_decay
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}])

    for number, batch in enumerate(setup.batches):
        rates = setup.optimizers.set_rates(number)
        leaves = {name: value.clone().requires_grad_() for name, value in tables.items()}
        logits = forward_by_hand(dense | leaves, batch)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.label, pos_weight=torch.tensor(3.0))
        adamw.zero_grad()
        loss.backward()
        for group in adamw.param_groups:
            group["lr"] = rates["dense"]
        adamw.step()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            momentum[name] += leaf.grad.square().mean(dim=1)
            step = leaf.grad / (momentum[name].sqrt() + 1e-8).unsqueeze(1)
            tables[name] -= rates["fused"] * step
    expected = {name: value.detach() for name, value in (dense | tables).items()}
    assert_close(Setup(small, precision="fp32", gradient_clip=None, embeddings={"tables": BY_TABLE}).run(), expected)


def test_fused_sgd_is_plain_sgd(small: PreparedDataset) -> None:
    embeddings = {"tables": {"*": {"optimizer": "sgd"}}, "fused_learning_rate": 0.5, "l2": 0.0}
    setup = Setup(small, precision="fp32", gradient_clip=None, weight_decay=0, embeddings=embeddings)
    setup.batches = setup.batches[:1]
    before = setup.weights()
    leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
    label = setup.batches[0].label
    logits = forward_by_hand(leaves, setup.batches[0])
    torch.nn.functional.binary_cross_entropy_with_logits(logits, label, pos_weight=torch.tensor(3.0)).backward()
    after = setup.run()
    tables = [name for name in before if "head" not in name]
    assert len(tables) > 2
    for name in tables:
        gradient = leaves[name].grad
        assert gradient is not None
        assert torch.allclose(after[name], before[name] - 0.5 * gradient, atol=1e-6), name


def forward_by_hand(weights: dict[str, Tensor], batch: Batch) -> Tensor:
    bags = "pooled.collection.embedding_bags"
    seen = batch.sequences["seen"]
    row = torch.repeat_interleave(torch.arange(len(batch)), seen.lengths())

    def pool(values: Tensor) -> Tensor:
        return torch.zeros(len(batch), 4).index_add(0, row, values)

    mean = pool(weights[f"{bags}.seen.weight"][seen.values().long()]) / seen.lengths().clamp(min=1).unsqueeze(1)
    events = weights["events.tables.seen.collection.embeddings.seen.weight"][seen.values().long()]
    inputs = [weights[f"{bags}.{name}.weight"][batch.sparse[name].values().long()] for name in ("color", "shop")]
    x = torch.cat([*inputs, mean, pool(events.square()), batch.dense], dim=1)
    return x @ weights["head.linear.weight"][0] + weights["head.linear.bias"]


def test_out_of_memory_splits_the_batch_and_keeps_the_result(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Setup(small, precision="fp32").run()
    setup = Setup(small, precision="fp32")
    forward = Jagged.forward

    def small_device(model: Jagged, batch: Batch) -> Tensor:
        logits = forward(model, batch)
        if len(batch) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits

    monkeypatch.setattr(Jagged, "forward", small_device)
    assert_close(expected, setup.run())
    assert setup.step.micro_batches == 4  # 90, 45, then 22 or 23 rows


def test_a_row_that_does_not_fit_is_an_error(small: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(small)

    def no_memory(model: Jagged, batch: Batch) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Jagged, "forward", no_memory)
    with pytest.raises(OutOfMemoryError, match="one row does not fit"):
        setup.run()


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(small)

    def broken(model: Jagged, batch: Batch) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Jagged, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        setup.run()
    assert setup.step.micro_batches == 1


@pytest.mark.parametrize("tables", [{}, ALL_FUSED], ids=["adamw", "fused"])
def test_non_finite_loss_switches_from_bf16_to_fp32(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch, tables: dict[str, object]
) -> None:
    """Batches that overflow in bf16 have no effect: training in fp32 goes on as if they had never come."""
    expected = Setup(small, precision="fp32", embeddings={"tables": tables}).run()
    setup = Setup(small, precision="bf16", embeddings={"tables": tables})
    forward = Jagged.forward

    def overflows(model: Jagged, batch: Batch) -> Tensor:
        factor = float("inf") if torch.is_autocast_enabled(batch.dense.device.type) else 1.0
        return forward(model, batch) * factor

    monkeypatch.setattr(Jagged, "forward", overflows)
    before = setup.weights()
    assert_close(before, setup.run(), atol=0)
    assert int(setup.step.finite.count()) == 3
    setup.step.settle(3)
    assert setup.step.precision == "fp32"
    assert_close(expected, setup.run())
    assert int(setup.step.finite.count()) == 0


def test_loss_not_finite_in_fp32_does_not_change_the_tables(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(small, precision="fp32", embeddings={"tables": ALL_FUSED})
    before = setup.weights()
    forward = Jagged.forward
    monkeypatch.setattr(Jagged, "forward", lambda model, batch: forward(model, batch) * float("nan"))
    setup.run()
    assert_close(before, setup.weights(), atol=0)
    with pytest.raises(InputError, match="the loss or a gradient of 3 batches is not finite, even in fp32"):
        setup.step.settle(int(setup.step.finite.count()))


def test_running_statistics_return_to_those_before_a_bad_batch() -> None:
    norm = nn.BatchNorm1d(2)
    finite = FiniteBatches(norm, torch.device("cpu"))
    assert norm.running_mean is not None
    for expected in (torch.zeros(2), torch.tensor([0.2, 0.3])):  # before the first good batch, and after it
        norm(torch.full((2, 2), torch.nan))
        finite.judge(torch.tensor(torch.nan))
        assert norm.running_mean.isnan().all()
        finite.settle(int(finite.count()))
        torch.testing.assert_close(norm.running_mean, expected)
        norm(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        finite.settle(0)


def test_l2_applies_only_to_looked_up_rows(small: PreparedDataset) -> None:
    for tables in ({}, ALL_FUSED):
        plain, pulled = (Setup(small, precision="fp32", embeddings={"tables": tables, "l2": l2}) for l2 in (0.0, 5.0))
        before = plain.weights()
        without, with_l2 = plain.run(), pulled.run()
        name = "pooled.collection.embedding_bags.shop.weight"
        seen = torch.cat([batch.sparse["shop"].values() for batch in plain.batches]).unique().long()
        is_seen = torch.zeros(len(before[name]), dtype=torch.bool).index_fill(0, seen, True)
        assert 0 < len(seen) < len(is_seen)
        assert torch.equal(with_l2[name][~is_seen], before[name][~is_seen])
        assert with_l2[name][is_seen].norm() < without[name][is_seen].norm()


def test_mixout_mixes_each_weight_with_its_anchor(small: PreparedDataset) -> None:
    setup = Setup(small, "dcnv2", mixout=0.3)
    name = "cross.layers.0.weight"
    anchor = setup.model.get_parameter(name).detach().clone()
    with torch.no_grad():
        setup.model.get_parameter(name).add_(1.0)
    mixed = torch.stack([setup.step._mixout.weights()[name].detach() for _ in range(2000)])
    # at the anchor: (a - .3 a) / .7 = a; else (a + 1 - .3 a) / .7 = a + 1 / .7
    offsets = mixed - anchor
    is_anchor = offsets.abs() < 1e-4
    assert torch.allclose(offsets[~is_anchor], torch.tensor(1 / 0.7), atol=1e-4)
    assert is_anchor.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert offsets.mean().item() == pytest.approx(1.0, abs=0.02)


def test_checkpointed_layers_use_the_same_mixed_weights(small: PreparedDataset) -> None:
    """Recomputation in the backward pass uses the mixed weights, not the model's weights."""
    a = Setup(small, "dcnv2", mixout=0.5, precision="fp32").run()
    b = Setup(small, "checkpointed", mixout=0.5, precision="fp32").run()
    assert_close(a, b)


def test_empty_micro_batch_adds_nothing(small: PreparedDataset) -> None:
    """More micro-batches than rows, or a process with only a placeholder row without label."""
    setup = Setup(small, precision="fp32", micro_batches=4)
    whole = Setup(small, precision="fp32")
    for one in (setup, whole):
        one.batches = [batch.take(torch.arange(2)) for batch in one.batches]
    assert_close(setup.run(), whole.run())
    setup.optimizers.zero_grad()
    row = replace(setup.batches[0].take(torch.arange(1)), is_real=torch.zeros(1, dtype=torch.bool))
    loss, looked_up = setup.step.dense_step(row.to(join_world().device), n_rows=5)
    setup.step.table_step(looked_up)
    assert float(loss) == 0
    assert all(p.grad is None or not p.grad.any() for p in setup.model.parameters())


def test_embedding_options_that_cannot_be_met(small: PreparedDataset) -> None:
    def attempt(**embeddings: object) -> None:
        shard(Jagged(small.split("full").schema), EmbeddingTraining.model_validate(embeddings), 0, 10, join_world())

    with pytest.raises(InputError, match="'shops' matches no table: the model has color, seen, shop"):
        attempt(tables={"shops": {"optimizer": "rowwise_adagrad"}})
    with pytest.raises(InputError, match="fused adam of table 'shop' needs a GPU"):
        attempt(tables={"shop": {"optimizer": "adam"}})
    odd = PooledEmbeddings(small.split("full").schema, 3, [], init_std=1.0)
    fused = EmbeddingTraining.model_validate({"tables": ALL_FUSED})
    with pytest.raises(InputError, match="needs an embedding_dim divisible by 4, got 3"):
        shard(odd, fused, 0, 10, join_world())
