"""Vectors of items say what ids cannot: models find the hidden direction that the click rate depends on."""

from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.rank import rank
from ranking.rerank import ItemColumns
from recsys.data.dataset import PreparedDataset
from tests.helpers.vector_data import N_COLD, N_ITEMS, click_logits, item_vectors, prepare_vectors, vector_schema
from tests.helpers.vector_data import vector_table as rows

MODELS = {
    "dcnv2": ["model.embedding_dim=8", "model.hidden_dims=[16]"],
    "xdeepfm": ["model.embedding_dim=8", "model.hidden_dims=[16]", "model.cin_dims=[8,8]"],
    "ft_transformer": ["model.d_model=16", "model.n_heads=2", "model.n_layers=1"],
    "din": ["model.embedding_dim=8", "model.hidden_dims=[16]", "model.attention_dims=[8]"],
    "onetrans": ["model.embedding_dim=8", "model.d_model=16", "model.n_feature_tokens=4"],
    "finalmlp": ["model.embedding_dim=8", "model.hidden_dims=[16]", "model.second_hidden_dims=[16]"],
    "qnn": ["model.embedding_dim=8"],
    "tabm": ["model.embedding_dim=8", "model.hidden_dims=[16]", "model.n_members=4"],
    "gbdt": ["model.n_trees=100"],
}


def aucs(model: str, prepared: Path, out: Path) -> tuple[float, float]:
    """ROC-AUC of the test rows of known and of cold items."""
    own = ["model.linear_part=false", "trainer.precision=fp32", "trainer.epochs=6", "trainer.learning_rate=0.005"]
    settings = [*MODELS[model], *(own if model != "gbdt" else [])]
    rank(model=model, data=prepared, config=prepared.parent / "config.yaml", out=out, overrides=settings)
    found = pa_csv.read_csv(out / "oof.csv")
    table = rows()
    item = np.array([int(name.removeprefix("item-")) for name in table["item"].to_pylist()])
    is_cold = item[found["row_id"].to_numpy()] >= N_ITEMS - N_COLD
    label, logit = found["label"].to_numpy(), found["logit"].to_numpy()
    np.testing.assert_array_equal(label, table["click"].to_numpy()[found["row_id"].to_numpy()])
    return roc_auc_score(label[~is_cold], logit[~is_cold]), roc_auc_score(label[is_cold], logit[is_cold])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_vectors(rows(), tmp_path_factory.mktemp("with"))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """The ROC-AUCs of DCN V2 that reads ids alone."""
    folder = tmp_path_factory.mktemp("without")
    return aucs("dcnv2", prepare_vectors(rows(), folder, vector_schema(vectors=[])), folder / "run")


def truth() -> float:
    """The ROC-AUC of the true click rates, on all rows."""
    table = rows()
    item = [int(name.removeprefix("item-")) for name in table["item"].to_pylist()]
    return float(roc_auc_score(table["click"].to_numpy(), click_logits(item_vectors())[item]))


@pytest.mark.parametrize("model", list(MODELS))
def test_a_hidden_direction_of_vectors_is_found(
    model: str, prepared: Path, without: tuple[float, float], tmp_path: Path
) -> None:
    known, cold = aucs(model, prepared, tmp_path / "run")
    assert known > without[0] + 0.02
    assert cold > truth() - (0.15 if model == "gbdt" else 0.05)  # axis-parallel splits approximate the direction
    assert abs(without[1] - 0.5) < 0.05


def test_candidates_have_the_vectors_of_their_items(tmp_path: Path) -> None:
    schema = vector_schema(towers={"user": ["device"], "item": ["item", "image"]})
    dataset = PreparedDataset.open(prepare_vectors(rows(200), tmp_path, schema))
    encoded, items = dataset.store.encoded(np.arange(40)), dataset.store.items(np.arange(40))
    changed = ItemColumns(dataset, frozenset(("item", "device"))).put(encoded, np.roll(items, 3))
    np.testing.assert_array_equal(changed.measured[:, 1:], np.roll(encoded.measured[:, 1:], 3, axis=0))
    np.testing.assert_array_equal(changed.measured[:, 0], encoded.measured[:, 0])
