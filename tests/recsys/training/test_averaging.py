from pathlib import Path

import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.training.update.averaging import WeightAverage
from tests.helpers.training import assert_same, quick, trainer_of, weights_of


def test_average_by_hand() -> None:
    weight = torch.tensor([1.0])
    average = WeightAverage([("w", weight)], decay=0.5)
    expected = 1.0
    for step in range(1, 31):
        weight.fill_(step)
        average.update(step)
        decay = min(0.5, step / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.in_place():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 30
    assert average.means["w"].item() == pytest.approx(expected)


def test_decay_zero_averages_nothing() -> None:
    weight = torch.tensor([1.0])
    average = WeightAverage([("w", weight)], decay=0.0)
    average.update(1)
    with average.in_place():
        assert weight.item() == 1.0
    assert average.means == {}


@pytest.mark.parametrize("stopping", [True, False], ids=["early stopping", "all epochs"])
def test_a_fit_ends_with_the_averages(small: PreparedDataset, tmp_path: Path, stopping: bool) -> None:
    """Training does not change, and the final weights are the averages over its steps."""
    extra = {} if stopping else {"early_stopping": None}
    config = quick(epochs=1, weight_average=0.9, embeddings={"l2": 0.01}, **extra)
    averaged = trainer_of(small, "fold_0", config, tmp_path / "a")
    seen: list[dict[str, torch.Tensor]] = []
    update = averaged._updater.average.update

    def watched(step: int) -> None:
        seen.append({name: tensor.clone() for name, tensor in averaged._updater.average._tensors.items()})
        update(step)

    averaged._updater.average.update = watched  # type: ignore[method-assign]
    expected = {name: tensor.clone() for name, tensor in averaged._updater.average._tensors.items()}
    averaged.fit()
    for number, weights in enumerate(seen):
        decay = min(0.9, (number + 1) / (number + 11))
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in expected}
    for name, tensor in averaged._updater.average._tensors.items():
        assert torch.allclose(tensor, expected[name], atol=1e-5), name

    plain = trainer_of(small, "fold_0", config.model_copy(update={"weight_average": 0.0}), tmp_path / "b")
    plain.fit()
    last = {name: value for name, value in weights_of(plain).items() if name in seen[-1]}
    assert last
    assert_same(last, {name: seen[-1][name] for name in last})
