"""What a model says of itself: a missing attribute is the absence of what it stands for."""

import pytest
import torch
from torch import Tensor, nn

from ranking.models import DEEP_MODELS
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.traits import auxiliary_weight_of, has_fixed_shapes, has_no_decay, sequences_of


class Plain(nn.Module):
    sequences = ("events",)


class Rich(Plain):
    fixed_shapes = True
    no_decay = True

    def __init__(self, auxiliary_weight: float) -> None:
        super().__init__()
        self.auxiliary_weight = auxiliary_weight

    def with_auxiliary(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return torch.zeros(1), torch.ones(1)


def test_a_plain_model_has_none_of_them() -> None:
    assert sequences_of(Plain()) == ("events",)
    assert auxiliary_weight_of(Plain()) == 0
    assert not has_fixed_shapes(Plain())
    assert not has_no_decay(Plain())


def test_attributes_are_read_from_the_class_and_the_instance() -> None:
    assert auxiliary_weight_of(Rich(2.0)) == 2
    assert auxiliary_weight_of(Rich(0.0)) == 0
    assert has_fixed_shapes(Rich(0.0))
    assert has_no_decay(Rich(0.0))
    off = Rich(0.0)
    off.fixed_shapes = False
    assert not has_fixed_shapes(off)


def test_a_weight_without_its_loss_is_no_auxiliary_loss() -> None:
    model = Plain()
    model.auxiliary_weight = 1.0  # type: ignore[assignment]
    assert auxiliary_weight_of(model) == 0


def test_a_model_that_does_not_name_its_sequences_is_told_so() -> None:
    with pytest.raises(InputError, match="Linear has no attribute sequences: set it to ()"):
        sequences_of(nn.Linear(1, 1))


def test_our_models_have_what_the_protocol_asks_for() -> None:
    for model in DEEP_MODELS:
        assert getattr(model.build, "Config") is model.config  # noqa: B009
