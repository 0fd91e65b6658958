"""DIN with attention over the last events, and SDIM over all."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchrec import JaggedTensor

from ranking.din import DIN, DINConfig
from recsys.data.dataset import PreparedDataset
from tests.helpers.sharded import with_tables


def build(dataset: PreparedDataset, **settings: object) -> DIN:
    torch.manual_seed(0)
    common = {"embedding_dim": 4, "embedding_init_std": 0.5, "hidden_dims": (8,), "linear_part": False}
    return with_tables(DIN(DINConfig.model_validate(common | settings), dataset.split("full").schema)).eval()


@pytest.mark.parametrize("softmax", [False, True])
@torch.no_grad()
def test_attention_over_the_last_events_is_that_over_shorter_histories(
    softmax: bool, with_target: PreparedDataset
) -> None:
    settings = {"attention_softmax": softmax, "match_scores": True, "matching": {}}
    whole, last = (build(with_target, max_events=n, **settings) for n in (None, 2))
    batch = with_target.split("full").batch(np.arange(50), whole.sequences)
    embedded = whole.events(batch)
    shorter = [events[-2:] for events in embedded["seen"].to_dense()]
    whole.events.given = embedded | {"seen": JaggedTensor.from_dense(shorter)}
    assert torch.allclose(last(batch), whole(batch), atol=1e-6)
    whole.events.given = None
    assert not torch.allclose(last(batch), whole(batch), atol=1e-4)


@torch.no_grad()
def test_the_network_reads_the_pooled_events(with_target: PreparedDataset) -> None:
    model = build(with_target, long_pooling="sdim", n_hashes=6, max_events=1)
    inputs: list[torch.Tensor] = []
    model.mlp.register_forward_hook(lambda _, args, out: inputs.append(args[0]))
    batch = with_target.split("full").batch(np.arange(50), model.sequences)
    model(batch)
    embedded = model.events(batch)
    assert model.long is not None
    expected = model.long(embedded["seen"].values(), embedded["seen"].lengths(), 5, embedded["shop"].values())
    start = 4 * (2 + 2)  # after color, shop and two pooled sequences; the steps are not pooled once more
    assert torch.equal(inputs[0][:, start : start + 4], expected)
    assert inputs[0].shape[1] == start + 4 + batch.dense.shape[1]


def test_without_long_pooling_weights_are_those_of_before(with_target: PreparedDataset) -> None:
    plain, pooled = build(with_target), build(with_target, long_pooling="sdim")
    weights, others = plain.state_dict(), pooled.state_dict()
    assert others.keys() - weights.keys() == {"long.hashes"}
    assert all(
        torch.equal(value, others[name]) for name, value in weights.items() if name.startswith(("units", "steps"))
    )


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="hash_width must divide n_hashes, got 5 and 48"):
        DINConfig(long_pooling="sdim", hash_width=5)
    with pytest.raises(ValidationError, match="max_events"):
        DINConfig(max_events=0)
