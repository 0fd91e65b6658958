import numpy as np
import torch

from recsys.data.dataset import PreparedDataset
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings
from tests.helpers.sharded import with_tables


def test_pooled_embeddings_by_hand(small: PreparedDataset) -> None:
    split, rows = small.split("full"), np.arange(20)
    module = with_tables(PooledEmbeddings(split.schema, 3, ["seen"], init_std=1.0))
    batch = split.batch(rows, ["seen", "steps"])
    found = module(batch).reshape(20, 3, 3)
    assert module.features == ["color", "shop", "seen"]
    tables = {name: bag.weight for name, bag in module.collection.embedding_bags.items()}
    assert torch.equal(found[:, 0], tables["color"][batch.sparse["color"].values().long()])
    assert torch.equal(found[:, 1], tables["shop"][batch.sparse["shop"].values().long()])
    for row, ids in enumerate(batch.sequences["seen"].to_dense()):
        expected = tables["seen"][ids.long()].mean(0) if len(ids) else torch.zeros(3)
        assert torch.allclose(found[row, 2], expected, atol=1e-6)


def test_tables_are_sized_and_named_after_their_vocabulary(small: PreparedDataset) -> None:
    schema = small.split("full").schema
    configs = PooledEmbeddings(schema, 4, ["seen"], init_std=0.01).collection.embedding_bag_configs()
    assert {config.name: config.num_embeddings for config in configs} == schema.num_embeddings


def test_initial_standard_deviation(small: PreparedDataset) -> None:
    module = with_tables(PooledEmbeddings(small.split("full").schema, 64, [], init_std=0.3))
    weights = torch.cat([bag.weight.flatten() for bag in module.collection.embedding_bags.values()])
    assert abs(float(weights.detach().std()) - 0.3) < 0.01


def test_sequence_embeddings_stay_jagged(small: PreparedDataset) -> None:
    split = small.split("full")
    module = with_tables(SequenceEmbeddings(split.schema, 3, ["seen"], init_std=1.0))
    batch = split.batch(np.arange(10), ["seen"])
    events = module(batch)["seen"]
    ids = batch.sequences["seen"]
    assert torch.equal(events.lengths(), ids.lengths())
    assert torch.equal(events.values(), module.tables["seen"].collection.embeddings["seen"].weight[ids.values().long()])
