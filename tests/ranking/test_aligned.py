"""Widths that suit a GPU's matrix products change neither logits, nor gradients, nor the shapes of weights."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.model_config import DeepModelConfig
from ranking.models import build_model
from ranking.onetrans.model import OneTransConfig
from ranking.xdeepfm import XDeepFMConfig
from recsys.data.dataset import PreparedDataset
from recsys.defaults import DataSize
from recsys.nn import layers
from recsys.nn.layers import Linear
from tests.helpers.sharded import with_tables

MODELS: list[DeepModelConfig] = [
    DCNv2Config(embedding_dim=4, hidden_dims=(5,), dropout=0.0),
    DCNv2Config(embedding_dim=4, hidden_dims=(5,), dropout=0.0, cross_rank=3, structure="stacked"),
    XDeepFMConfig(embedding_dim=4, cin_dims=(6, 6), hidden_dims=(5,), dropout=0.0),
    XDeepFMConfig(embedding_dim=4, cin_dims=(6, 6), cin_split_half=False, hidden_dims=(5,), dropout=0.0),
    FTTransformerConfig(d_model=8, n_layers=2, n_heads=2, attention_dropout=0, ffn_dropout=0, token_dropout=0),
    DINConfig(embedding_dim=4, hidden_dims=(5,), dropout=0.0, cross_depth=1),
    OneTransConfig(embedding_dim=4, d_model=6, n_feature_tokens=3, hidden_dims=(5,), dropout=0.0),
]


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
def test_aligned_widths_change_nothing(
    with_target: PreparedDataset, monkeypatch: pytest.MonkeyPatch, config: DeepModelConfig
) -> None:
    split = with_target.split("full")
    results: list[tuple[Tensor, dict[str, Tensor | None]]] = []
    for alignment in ({}, {"cpu": 8}):
        monkeypatch.setattr(layers, "ALIGNMENT", alignment)
        torch.manual_seed(0)
        model = with_tables(build_model(config.resolved(DataSize(2000, 500)), split.schema)).eval()
        logits = model(split.batch(np.arange(40), model.sequences))
        logits.square().sum().backward()
        results.append((logits.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (plain, gradients), (filled, filled_gradients) = results
    torch.testing.assert_close(filled, plain, atol=1e-5, rtol=1e-4)
    assert gradients.keys() == filled_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(filled_gradients[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_a_linear_layer_ignores_columns_without_weights() -> None:
    torch.manual_seed(0)
    layer, x = Linear(3, 5), torch.randn(4, 3)
    filled = layer(torch.cat([x, torch.zeros(4, 2)], dim=1), d_out=8)
    torch.testing.assert_close(filled[:, :5], layer(x))
    assert not filled[:, 5:].any()
