"""The loss of each step against a loop, for the whole catalog and for sampled items."""

import numpy as np
import pytest
import torch

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from retrieval.catalog import build_catalog
from retrieval.config import RetrievalLoss
from retrieval.negatives import WithNegatives
from retrieval.objective import share_by_id
from retrieval.sequential import step_loss
from retrieval.sequential.step_loss import StepLoss, catalog_index_by_id, draw_negatives
from retrieval.two_tower import TwoTower
from tests.helpers.towers import towers

N_ROWS, N_ITEMS = 9, 12
DRAWN = [0, 3, 3, 7, 11]
DOT = {"similarity": "dot", "popularity_prior": False, "output_dim": 4}


def example(
    dataset: PreparedDataset, loss: RetrievalLoss, **changes: object
) -> tuple[StepLoss, Batch, list[list[int]]]:
    """The objective, a batch, and the catalog indices of each row's next items."""
    split = dataset.split("full")
    catalog = build_catalog(split, split.fit_rows, [], False)
    model = towers(dataset, **{"pooling": "ligr", "user_hidden_dims": (), "item_hidden_dims": (), **changes})
    rows = np.arange(N_ROWS)
    batch = WithNegatives(split, catalog, (), 0, 0, True, seed=0).batch(rows, model.sequences)
    share, entry = share_by_id(split, catalog, catalog.n_positives), catalog_index_by_id(split, catalog)
    objective = StepLoss(model, loss, share, entry, 2.0, len(catalog), join_world())
    _, lengths = dataset.store.read_tokens("watched", rows)
    ends, own = np.cumsum(lengths), catalog.entries(split, rows)
    entry_of = dict(zip(split.batch(catalog.rows, ()).sparse["film"].values().tolist(), range(N_ITEMS), strict=True))
    tokens = [entry_of[token] for token in batch.sequences["watched"].values().tolist()]
    return objective, batch, [[*tokens[e - n : e], int(o)] for e, n, o in zip(ends, lengths, own, strict=True)]


def logits(model: TwoTower, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The [S, I] logits of all items at each step, and the rows of the steps."""
    steps, row = model.step_vectors(batch, N_ROWS)
    return model.scale * steps @ model.item_vectors(batch)[N_ROWS:].T, row


@pytest.mark.parametrize(
    "changes", [{"pooling": "causal"}, {"pooling": "sasrec"}, {"pooling": "hstu"}, {}, DOT], ids=str
)
def test_full_catalog_by_a_loop(film_log: PreparedDataset, changes: dict[str, object]) -> None:
    objective, batch, targets = example(film_log, RetrievalLoss(full_catalog=True), **changes)
    found = objective(batch).detach()
    assert found[N_ROWS:].abs().max() == 0
    every, row = logits(objective.model, batch)
    for number in range(N_ROWS):
        log_p = every[row == number].log_softmax(dim=1).detach()
        expected = -sum(float(log_p[step, target]) for step, target in enumerate(targets[number])) / 2.0
        assert float(found[number]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        RetrievalLoss(uniform_negatives=5),
        RetrievalLoss(popular_negatives=5),
        RetrievalLoss(batch_negatives=5),
        RetrievalLoss(uniform_negatives=2, popular_negatives=1, batch_negatives=2),
        RetrievalLoss(uniform_negatives=5, logq_correction=False),
    ],
    ids=["uniform", "popular", "batch", "mixed", "uncorrected"],
)
def test_sampled_softmax_by_a_loop(
    film_log: PreparedDataset, loss: RetrievalLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_loss, "draw_negatives", lambda *_: torch.tensor(DRAWN))
    objective, batch, targets = example(film_log, loss)
    found = objective(batch).detach()
    every, row = logits(objective.model, batch)
    ids = batch.sparse["film"].values()[N_ROWS:].long()
    share = objective.share[ids] / objective.share[ids].sum()
    n_popular = loss.popular_negatives + loss.batch_negatives
    for number in range(N_ROWS):
        expected = 0.0
        for step, target in zip(every[row == number].tolist(), targets[number], strict=True):
            total = np.exp(step[target])
            for item in DRAWN:
                q = n_popular * float(share[item]) + loss.uniform_negatives / N_ITEMS if loss.logq_correction else 1.0
                total += np.exp(step[item]) / q if item != target else 0.0
            expected += np.log(total) - step[target]
        assert float(found[number]) == pytest.approx(expected / 2.0, rel=1e-3)


def test_gbce_by_a_loop(film_log: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_loss, "draw_negatives", lambda *_: torch.tensor(DRAWN))
    loss = RetrievalLoss(name="gbce", uniform_negatives=5, gbce_calibration=0.5)
    objective, batch, targets = example(film_log, loss, **DOT)
    found = objective(batch).detach()
    every, row = logits(objective.model, batch)
    alpha = 5 / 11
    beta = alpha * (0.5 * (1 - 1 / alpha) + 1 / alpha)
    for number in range(N_ROWS):
        expected = 0.0
        for step, target in zip(every[row == number].tolist(), targets[number], strict=True):
            negatives = [1 / (1 + np.exp(-step[item])) for item in DRAWN if item != target]
            own = 1 / (1 + np.exp(-step[target]))
            expected -= (beta * np.log(own) + np.log(1 - np.array(negatives)).sum()) / (1 + len(negatives))
        assert float(found[number]) == pytest.approx(expected / 2.0, rel=1e-4)


def test_draws_have_the_expected_counts() -> None:
    """The logQ correction is right if items are drawn as often as it says."""
    torch.manual_seed(0)
    target, share = torch.tensor([0, 0, 0, 2]), torch.tensor([0.5, 0.3, 0.2])
    uniform, popular, of_batch = (
        torch.bincount(draw_negatives(RetrievalLoss(**{key: 20_000}), target, share), minlength=3) / 20_000
        for key in ("uniform_negatives", "popular_negatives", "batch_negatives")
    )
    assert uniform.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert popular.tolist() == pytest.approx(share.tolist(), abs=0.02)
    assert of_batch.tolist() == pytest.approx([0.75, 0, 0.25], abs=0.02)
    mixed = RetrievalLoss(uniform_negatives=2, popular_negatives=3, batch_negatives=4)
    assert len(draw_negatives(mixed, target, share)) == 9
