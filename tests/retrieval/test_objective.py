"""The objective of rows against a loop, the catalog and negatives."""

import numpy as np
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.loader import Loader
from recsys.data.resident.loader import ResidentLoader, resident_batches
from recsys.data.resident.rows import ResidentRows
from recsys.data.rows import ListedRows, Permutation
from recsys.errors import InputError
from recsys.system.world import join_world
from retrieval.catalog import Catalog, build_catalog
from retrieval.config import RetrievalLoss
from retrieval.fit import positives_among, rows_to_train
from retrieval.negatives import WithNegatives
from retrieval.objective import RowSoftmax, share_by_id
from tests.helpers.towers import towers


def catalog_of(dataset: PreparedDataset, split: str = "holdout") -> Catalog:
    chosen = dataset.split(split)
    return build_catalog(chosen, chosen.fit_rows, [chosen.held_out_rows], True)


def test_catalog_has_each_item_once_in_descending_popularity(shops: PreparedDataset) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    fit = split.fit_rows.numbers()
    every = np.sort(np.concatenate([fit, split.held_out_rows.numbers()]))
    names = catalog.names.to_pylist()
    text = np.array(shops.store.item_names.to_pylist())
    assert sorted(names) == sorted(set(text[shops.store.items(every)]))
    shown = [int((text[shops.store.items(fit)] == name).sum()) for name in names]
    assert catalog.n_impressions.tolist() == shown == sorted(shown, reverse=True)
    assert catalog.n_positives.sum() == (shops.store.labels(fit) == 1).sum()
    assert [int(every[text[shops.store.items(every)] == name][0]) for name in names] == catalog.rows.tolist()
    assert np.array_equal(catalog.entries(split, catalog.rows), np.arange(len(catalog)))


def test_recent_days_have_larger_weights(shops: PreparedDataset) -> None:
    split = shops.split("holdout")
    even, recent = (build_catalog(split, split.fit_rows, [], True, half_life) for half_life in (None, 1.0))
    assert np.array_equal(even.recent, even.n_impressions)
    fit = split.fit_rows.numbers()
    assert shops.store.days(fit).max() == 5  # the seventh day is held out
    weight = 0.5 ** (5.0 - shops.store.days(fit))
    expected = [weight[recent.entries(split, fit) == entry].sum() for entry in range(len(recent))]
    np.testing.assert_allclose(recent.recent, expected)


@pytest.mark.parametrize("is_corrected", [True, False])
def test_in_batch_losses_by_a_loop(shops: PreparedDataset, is_corrected: bool) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    model = towers(shops)
    loss = RetrievalLoss(
        uniform_negatives=5, impressions="negative", impression_weight=0.5, logq_correction=is_corrected
    )
    share = share_by_id(split, catalog, catalog.n_impressions)
    batch = WithNegatives(split, catalog, (), 5, 0, False, seed=0).batch(np.arange(12), model.sequences)
    batch.label[:12] = torch.tensor([1.0, 0.0] * 6)
    batch.is_real[11] = False  # a padding row
    objective = RowSoftmax(model, loss, share, len(catalog), False, join_world())
    found = objective(batch)
    assert found.shape == (17,)
    assert found[12:].tolist() == [0.0] * 5

    user, item, ids = model.user_vectors(batch, 12), model.item_vectors(batch), batch.sparse["shop"].values()
    for row in range(11):
        own = float(model.scale * user[row] @ item[row])
        negatives = []
        for other in range(17):
            if ids[other] == ids[row] or other == 11:
                continue
            q = 11 * float(share[ids[other]]) + 5 / len(catalog) if is_corrected else 1.0
            negatives.append(float(model.scale * user[row] @ item[other]) - np.log(q))
        p = np.exp(own) / (np.exp(own) + np.exp(negatives).sum())
        expected = -np.log(p) if row % 2 == 0 else -0.5 * np.log(1 - p)
        assert float(found[row]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_full_catalog_loss_does_not_depend_on_the_batch(shops: PreparedDataset) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    model = towers(shops)
    share = share_by_id(split, catalog, catalog.n_impressions)
    batches = WithNegatives(split, catalog, (), 0, 0, True, seed=0)
    objective = RowSoftmax(model, RetrievalLoss(full_catalog=True), share, len(catalog), True, join_world())
    few, many = batches.batch(np.arange(4), model.sequences), batches.batch(np.arange(30), model.sequences)
    assert len(few) == 4 + len(catalog)
    torch.testing.assert_close(objective(few)[:4], objective(many)[:4])


def test_negatives_are_the_same_for_the_same_rows(shops: PreparedDataset) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    a, b, other = (WithNegatives(split, catalog, (), 20, 30, False, seed=seed) for seed in (0, 0, 1))
    rows = np.arange(8)
    ids = [batches.batch(rows, ("seen",)).sparse["shop"].values() for batches in (a, b, other)]
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])


@pytest.mark.parametrize(("n_uniform", "n_popular", "is_whole"), [(5, 7, False), (0, 0, True), (0, 0, False)])
def test_batches_on_a_device_are_those_of_the_host(
    shops: PreparedDataset, n_uniform: int, n_popular: int, is_whole: bool
) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    host = WithNegatives(split, catalog, (), n_uniform, n_popular, is_whole, seed=0)
    resident = resident_batches(host, ResidentRows.of(split.store, torch.device("cpu")))
    assert resident is not None
    order = (split.fit_rows, 64, towers(shops).sequences, Permutation(len(split.fit_rows), 3))
    for found, expected in zip(ResidentLoader(resident, *order), Loader(host, *order), strict=True):
        assert found.n_rows == expected.n_rows
        assert torch.equal(found.row, expected.row)
        torch.testing.assert_close(found.dense, expected.dense, atol=1e-6, rtol=1e-6)
        for a, b in ((found.sparse, expected.sparse), (found.sequences, expected.sequences)):
            assert torch.equal(a.values(), b.values())
            assert torch.equal(a.lengths(), b.lengths())
            assert a.offset_per_key() == b.offset_per_key()


def test_popular_negatives_are_drawn_as_often_as_positives(shops: PreparedDataset) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    batches = WithNegatives(split, catalog, (), 0, 20_000, False, seed=0)
    drawn = batches.batch(np.arange(2), ("seen",)).sparse["shop"].values()[2:].numpy()
    ids = split.batch(catalog.rows, ()).sparse["shop"].values().numpy()
    for entry in (0, 1, 5):
        same = catalog.n_positives[ids == ids[entry]].sum() / catalog.n_positives.sum()
        assert np.mean(drawn == ids[entry]) == pytest.approx(same, abs=0.015)


def test_rows_to_train(shops: PreparedDataset) -> None:
    split = shops.split("holdout")
    n_hits = split.prior.n_positive
    clicked = rows_to_train(split, split.fit_rows, "clicked", RetrievalLoss(), 0)
    assert len(clicked) == n_hits == len(positives_among(split, split.fit_rows, "clicked"))
    assert (shops.store.labels(clicked.numbers()) == 1).all()
    some = rows_to_train(
        split, split.fit_rows, "clicked", RetrievalLoss(impressions="negative", impressions_per_positive=0.5), 0
    )
    assert len(some) == pytest.approx(1.5 * n_hits, rel=0.1)
    every = rows_to_train(split, split.fit_rows, "clicked", RetrievalLoss(impressions="positive"), 0)
    assert len(every) == len(split.fit_rows) == len(rows_to_train(split, split.fit_rows, "all", RetrievalLoss(), 0))
    not_clicked = np.flatnonzero(shops.store.labels(np.arange(100)) == 0)
    with pytest.raises(InputError, match="has no clicks to train retrieval on"):
        rows_to_train(split, ListedRows(not_clicked), "clicked", RetrievalLoss(), 0)
