"""Training that diverges in its last step, after which no further loss is computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.system.files import is_done
from recsys.system.world import World, join_world
from recsys.training.update.finite import DivergenceError, check_scores, check_weights
from tests.helpers.training import quick, trainer_of

FUSED = {"tables": {"*": {"optimizer": "rowwise_adagrad"}}}


@pytest.mark.parametrize("learning_rate", [1e12, 1e39], ids=["scores", "weights"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"early_stopping": None},
        {"precision": "bf16"},
        {"weight_average": 0.9, "early_stopping": None},
        {"embeddings": FUSED},
    ],
    ids=str,
)
def test_divergence_in_the_only_step_is_an_error(
    small: PreparedDataset, tmp_path: Path, learning_rate: float, changes: dict[str, object]
) -> None:
    config = quick(epochs=1, batch_size=4096, learning_rate=learning_rate, warmup_fraction=0, **changes)
    trainer = trainer_of(small, "fold_0", config, tmp_path)
    with pytest.raises(DivergenceError, match="the loss is not finite: lower trainer.learning_rate"):
        trainer.fit()
    assert not is_done(tmp_path / "weights")


def test_weights_of_every_shape_are_checked() -> None:
    world = join_world()
    check_weights({"a": torch.ones(3), "b": torch.zeros(0, 4), "c": torch.arange(3)}, world)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(DivergenceError, match="a weight is not finite after the last step"):
            check_weights({"a": torch.ones(3), "b": torch.tensor([[1.0, wrong]])}, world)


def test_a_weight_of_another_process_is_reported_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "all_reduce", lambda self, tensor: tensor + 1)  # the other process found one
    with pytest.raises(DivergenceError):
        check_weights({"a": torch.ones(3)}, World(0, 2, torch.device("cpu")))


def test_scores_are_returned_if_finite() -> None:
    assert check_scores(np.array([1.0, -3e38])).tolist() == [1.0, -3e38]
    with pytest.raises(DivergenceError, match="a score is not finite after the last step.*lower x or check the data"):
        check_scores(np.array([1.0, np.nan]), "x")
