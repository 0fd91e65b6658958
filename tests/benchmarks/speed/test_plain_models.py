"""The plain models of the speed contest give logits and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from benchmarks.speed.contest import load, sequences_of
from benchmarks.speed.plain_models import PlainCIN, plain_model
from ranking.models import config_class
from ranking.xdeepfm import CIN
from recsys.data.dataset import PreparedDataset

MODELS = {
    "dcnv2": {"hidden_dims": (8,)},
    "xdeepfm": {"hidden_dims": (8,), "cin_dims": (6, 4)},
    "din": {"hidden_dims": (8,), "attention_dims": (6,)},
    "ft_transformer": {"d_model": 8, "n_heads": 2, "n_layers": 2},
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients(with_target: PreparedDataset, name: str) -> None:
    torch.manual_seed(0)
    split = with_target.split("full")
    config = config_class(name).model_validate(MODELS[name]).resolved(replace(split.size("cuda"), n_rows=10_000_000))
    arrays = load(split, split.fit_rows, sequences_of(config, split))
    model = plain_model(config, split.schema)
    ids, dense, *sequences = (torch.from_numpy(a[:200]) for a in (arrays.ids, arrays.dense, *arrays.sequences))
    model(ids, dense, *sequences).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    longer = [pad(sequence, (0, 3)) for sequence in sequences]
    with torch.no_grad():
        logits = model.eval()(ids, dense, *sequences)
        assert logits.shape == (200,)
        assert len(logits.unique()) > 100
        assert torch.allclose(logits, model(ids, dense, *longer), atol=1e-5)


@pytest.mark.parametrize("split_half", [True, False])
@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_plain_cin_equals_the_cin_of_the_model(split_half: bool, activation: str) -> None:
    torch.manual_seed(0)
    ours, plain = CIN(5, (6, 4), split_half, activation), PlainCIN(5, (6, 4), split_half, activation)
    with torch.no_grad():
        for layer, convolution in zip(ours.layers, plain.convolutions, strict=True):
            convolution.weight.copy_(layer.weight.view_as(convolution.weight))
            convolution.bias.copy_(layer.bias)
    fields = torch.randn(7, 5, 3)
    assert np.allclose(ours(fields).detach(), plain(fields).detach(), atol=1e-5)
