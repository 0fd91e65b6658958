"""Models find whether the item is among the events: attention in the last ones, SDIM in all."""

import pytest
import torch
from torch import nn

from ranking.models import build_model, config_class
from recsys.data.dataset import PreparedDataset
from tests.helpers.matches import auc_after_training, prepare_matches
from tests.helpers.sharded import with_tables

SETTINGS: dict[str, dict[str, object]] = {
    "onetrans": {"d_model": 16, "n_feature_tokens": 2, "hidden_dims": (16,), "embedding_init_std": 0.5},
    "din": {"hidden_dims": (16,), "attention_dims": (16,), "embedding_init_std": 0.5, "activation": "relu"},
}


@pytest.fixture(scope="module")
def recent(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare_matches(tmp_path_factory.mktemp("recent"), is_recent=True)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare_matches(tmp_path_factory.mktemp("older"), is_recent=False)


def build(name: str, dataset: PreparedDataset, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    own = SETTINGS[name] | {"embedding_dim": 16, "dropout": 0.0, "linear_part": False, "max_events": 3}
    return with_tables(build_model(config_class(name).model_validate(own | settings), dataset.split("full").schema))


@pytest.mark.parametrize("name", SETTINGS)
def test_attention_finds_a_recent_event(name: str, recent: PreparedDataset) -> None:
    assert auc_after_training(build(name, recent), recent, n_steps=150) > 0.8


@pytest.mark.parametrize("name", SETTINGS)
def test_long_pooling_finds_an_older_event(name: str, older: PreparedDataset) -> None:
    assert abs(auc_after_training(build(name, older), older, n_steps=60) - 0.5) < 0.06
    pooled = build(name, older, long_pooling="sdim", hash_width=6)
    assert auc_after_training(pooled, older, n_steps=150) > 0.75
