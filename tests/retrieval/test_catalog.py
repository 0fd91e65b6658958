import numpy as np
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import ListedRows
from retrieval.catalog import build_catalog
from retrieval.negatives import WithNegatives


def test_training_knows_the_items_with_a_fitting_row(shops: PreparedDataset) -> None:
    split = shops.split("full")
    everything = np.arange(400)
    items = split.store.items(everything)
    hidden = np.unique(items[items >= 0])[:3]
    fitting = everything[~np.isin(items, hidden)]
    catalog = build_catalog(split, ListedRows(fitting), [ListedRows(everything)], is_clicked_only=True)
    known = catalog.known()
    assert len(known) == len(catalog) - 3
    assert catalog.names[: len(known)].equals(known.names)
    assert set(known.names.to_pylist()).isdisjoint(split.store.item_names.take(hidden).to_pylist())
    assert (known.n_impressions > 0).all()
    of_fitting = build_catalog(split, ListedRows(fitting), [], is_clicked_only=True)
    assert of_fitting.names.equals(known.names)
    np.testing.assert_array_equal(of_fitting.n_positives, known.n_positives)
    np.testing.assert_array_equal(known.entries(split, everything) < 0, (items < 0) | np.isin(items, hidden))


def test_items_without_a_fitting_row_are_no_negatives(shops: PreparedDataset) -> None:
    """The fit's candidates are the same whatever items only evaluation rows have."""
    split = shops.split("full")
    fitting, others = np.arange(20), np.arange(20, 400)
    with_others = build_catalog(split, ListedRows(fitting), [ListedRows(others)], is_clicked_only=False)
    alone = build_catalog(split, ListedRows(fitting), [], is_clicked_only=False)
    assert len(with_others) > len(alone)
    assert split.schema.target_item is not None
    for is_whole in (False, True):
        drawn = [
            WithNegatives(split, catalog, (), 64, 0, is_whole, seed=0).items(20, 0, 19, ())
            for catalog in (with_others.known(), alone)
        ]
        ids = [batch.sparse[split.schema.target_item].values() for batch in drawn if batch is not None]
        assert len(ids) == 2
        assert torch.equal(*ids)
