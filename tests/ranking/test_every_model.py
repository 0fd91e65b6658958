"""Properties of every model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranking.models import build_model, config_class
from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.defaults import DataSize
from tests.helpers.sharded import with_tables
from tests.helpers.small import prepare_small, small_schema, small_table

MODELS = {
    "dcnv2": {"hidden_dims": (8,)},
    "dcnv2-stacked": {"hidden_dims": (8,), "structure": "stacked", "cross_rank": 2},
    "dcnv2-periodic": {"hidden_dims": (8,), "numeric_embeddings": "periodic", "numeric_embedding_dim": 3},
    "dcnv2-linear": {"hidden_dims": (8,), "numeric_embeddings": "linear"},
    "xdeepfm": {"hidden_dims": (8,), "cin_dims": (6, 4)},
    "xdeepfm-whole": {"hidden_dims": (8,), "cin_dims": (6, 4), "cin_split_half": False, "cin_activation": "relu"},
    "xdeepfm-bins": {"hidden_dims": (8,), "cin_dims": (6, 4), "numeric_embeddings": "piecewise_linear"},
    "ft_transformer": {"d_model": 8, "n_heads": 2, "n_layers": 2, "numeric_tokens": "fourier", "n_frequencies": 3},
    "ft_transformer-tokens": {
        "d_model": 8,
        "n_heads": 2,
        "n_layers": 2,
        "numeric_tokens": "fourier",
        "n_frequencies": 3,
        "token_batch_norm": True,
        "embedding_init_std": 0.01,
        "readout": "tokens",
        "hidden_dims": [12],
        "batch_norm": True,
    },
    "ft_transformer-linear": {"d_model": 8, "n_heads": 2, "n_layers": 1, "numeric_tokens": "linear"},
    "ft_transformer-cls": {"d_model": 8, "n_heads": 2, "n_layers": 1, "readout": "cls"},
    "finalmlp": {"hidden_dims": (8,), "second_hidden_dims": (6,), "gate_dims": (5,), "n_heads": 2},
    "finalmlp-contexts": {
        "hidden_dims": (8,),
        "second_hidden_dims": (6,),
        "first_context": ("color",),
        "second_context": ("sh*",),
    },
    "finalmlp-plain": {"hidden_dims": (8,), "second_hidden_dims": (6,), "gates": False, "batch_norm": True},
    "qnn": {"n_factors": 3},
    "qnn-numbers": {"n_factors": 2, "batch_norm": False, "numeric_embeddings": "none"},
    "tabm": {"hidden_dims": (8,), "n_members": 4},
    "tabm-bins": {"hidden_dims": (8, 6), "n_members": 4, "numeric_embeddings": "piecewise_linear"},
    "din": {"hidden_dims": (8,), "attention_dims": (6, 5)},
    "din-softmax": {"hidden_dims": (8,), "attention_dims": (6,), "attention_softmax": True, "activation": "prelu"},
    "din-crosses": {"hidden_dims": (8,), "attention_dims": (6,), "cross_depth": 2, "cross_rank": 3},
    "din-match": {"hidden_dims": (8,), "attention_dims": (6,), "match_scores": True, "target_with": ("color",)},
    "din-softmax-match": {"hidden_dims": (8,), "attention_softmax": True, "match_scores": True, "activation": "relu"},
    "din-bins": {"hidden_dims": (8,), "attention_dims": (6,), "numeric_embeddings": "piecewise_linear"},
    "din-sdim": {"hidden_dims": (8,), "attention_dims": (6,), "max_events": 2, "long_pooling": "sdim", "n_hashes": 6},
    "onetrans": {"d_model": 8, "n_heads": 2, "n_feature_tokens": 3, "hidden_dims": (8,), "max_events": 4},
    "onetrans-sdim": {"d_model": 8, "n_layers": 3, "n_heads": 2, "n_feature_tokens": 2, "long_pooling": "sdim"},
    "onetrans-one-layer": {"d_model": 8, "n_layers": 1, "n_heads": 2, "target_with": ("color",), "hidden_dims": ()},
    "din-mean": {"hidden_dims": (8,), "pooling": "mean", "activation": "relu"},
}


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest, with_target: PreparedDataset) -> nn.Module:
    torch.manual_seed(0)
    kind = config_class(request.param.split("-")[0])
    size = DataSize(n_rows=10_000_000, n_positive=200_000, device="cuda")
    common = {"embedding_dim": 4, "embedding_init_std": 0.5}
    own = {key: value for key, value in common.items() if key in kind.model_fields}
    config = kind.model_validate(own | MODELS[request.param])
    return with_tables(build_model(config.resolved(size), with_target.split("full").schema))


def batch_of(model: nn.Module, dataset: PreparedDataset, rows: np.ndarray) -> Batch:
    sequences = model.sequences
    assert isinstance(sequences, tuple)
    return dataset.split("full").batch(rows, sequences)


def test_logits_are_finite_float32_and_differ(model: nn.Module, with_target: PreparedDataset) -> None:
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16), torch.no_grad():
            logits: Tensor = model.eval()(batch_of(model, with_target, np.arange(64)))
        assert logits.shape == (64,)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert len(logits.unique()) > 50


def test_gradients_reach_every_parameter(model: nn.Module, with_target: PreparedDataset) -> None:
    model.train()(batch_of(model, with_target, np.arange(500))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_logits_do_not_depend_on_other_rows(model: nn.Module, with_target: PreparedDataset) -> None:
    """The order of rows, the other rows of the batch and their history lengths do not change a logit."""
    rows = np.arange(40)
    with torch.no_grad():
        whole = model.eval()(batch_of(model, with_target, rows))
        turned = model(batch_of(model, with_target, rows[::-1].copy()))
        alone = torch.cat([model(batch_of(model, with_target, rows[i : i + 1])) for i in range(40)])
    assert torch.allclose(whole, turned.flip(0), atol=1e-5)
    assert torch.allclose(whole, alone, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in MODELS if not name.startswith(("din", "onetrans")) and "contexts" not in name]
)
def test_numbers_are_features_enough(name: str, tmp_path: Path) -> None:
    schema = small_schema(categorical=[], sequences={}, segments={})
    split = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema).split("full")
    config = config_class(name.split("-")[0]).model_validate(MODELS[name]).resolved(DataSize(2_000, 400))
    model = with_tables(build_model(config, split.schema))
    logits: Tensor = model.eval()(split.batch(np.arange(64), []))
    assert logits.isfinite().all()
    assert len(logits.unique()) > 50


def test_a_batch_without_any_history(model: nn.Module, with_target: PreparedDataset) -> None:
    split = with_target.split("full")
    rows = np.arange(400)
    lengths = split.batch(rows, ["seen"]).sequences["seen"].lengths().numpy()
    empty = rows[lengths == 0][:5]
    assert len(empty) == 5
    model.train()(batch_of(model, with_target, empty)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
