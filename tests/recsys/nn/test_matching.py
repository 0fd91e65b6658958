import numpy as np
import torch

from ranking.din import DIN, DINConfig
from recsys.data.dataset import PreparedDataset
from recsys.nn.matching import Matching, MatchingConfig
from recsys.training.losses import WeightedLogLoss
from recsys.training.task import RowLoss
from tests.helpers.din import forward
from tests.helpers.sharded import with_tables


def test_losses_by_a_loop() -> None:
    """Each row's target against the targets of every second row."""
    torch.manual_seed(0)
    matching = Matching(MatchingConfig(dim=3, max_negatives=4), 5, 2)
    u, v = torch.randn(8, 3), torch.randn(8, 3)
    found = matching.losses(u, v)
    for row in range(8):
        own, others = float(u[row] @ v[row]), [float(u[row] @ v[k]) for k in range(0, 8, 2)]
        expected = np.log(np.exp(own) + np.exp(others).sum()) - own
        assert abs(float(found[row]) - expected) < 1e-5


SHARES = torch.tensor([[0.70, 0.10, 0.10, 0.10], [0.40, 0.30, 0.15, 0.15]])
"""P(target | behaviors) of two equally frequent kinds of rows."""


def test_learns_the_log_ratio_to_popularity() -> None:
    """Scores of two targets differ by the difference of their ln(P(target | behaviors) / P(target))."""
    torch.manual_seed(0)
    matching = Matching(MatchingConfig(dim=4), 2, 4)
    optimizer, kept = torch.optim.Adam(matching.parameters(), lr=0.02), []
    kind_B = torch.arange(256) % 2
    for step in range(800):
        target_B = torch.multinomial(SHARES[kind_B], 1).squeeze(1)
        losses = matching.losses(*matching(torch.eye(2)[kind_B], torch.eye(4)[target_B]))
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        if step >= 400:
            u, _ = matching(torch.eye(2), torch.eye(4)[:2])
            _, v = matching(torch.eye(2)[[0, 0, 0, 0]], torch.eye(4))
            kept.append((u @ v.T).detach())
    found = torch.stack(kept).mean(dim=0)
    expected = (SHARES / SHARES.mean(dim=0)).log()
    assert torch.allclose(found - found[:, :1], expected - expected[:, :1], atol=0.12)


def test_match_score_bypasses_the_mlp(with_target: PreparedDataset) -> None:
    config = DINConfig(embedding_dim=4, embedding_init_std=0.5, matching=MatchingConfig(dim=3))
    found = forward(config, with_target, 30)
    model, means = found.model, torch.zeros(30, 8)
    with torch.no_grad():
        steps = found.batch.sequences["steps"]
        at_step = model.steps["steps"](steps.values().long(), steps.weights()).split(steps.lengths().tolist())
        for row, own in enumerate(found.events["seen"].to_dense()):
            means[row, :4] = own.mean(0) if len(own) else 0.0
            means[row, 4:] = at_step[row].mean(0)
        assert model.matching is not None
        u, v = model.matching(means, found.events["shop"].values())
        match = (u * v).sum(dim=1, keepdim=True)
        assert torch.allclose(found.logit, found.logit_with(match), atol=1e-5)


def test_matching_loss_is_added_to_the_click_loss(with_target: PreparedDataset) -> None:
    torch.manual_seed(0)
    split = with_target.split("full")
    config = DINConfig(embedding_dim=4, embedding_init_std=0.5, matching=MatchingConfig(loss_weight=0.5))
    model, clicks = with_tables(DIN(config, split.schema)).eval(), WeightedLogLoss(3.0)
    batch = split.batch(np.arange(30), model.sequences)
    logits, auxiliary = model.with_auxiliary(batch)
    assert torch.equal(logits, model(batch))
    assert bool((auxiliary > 0).any())
    expected = clicks(logits, batch.label) + 0.5 * auxiliary
    assert torch.equal(RowLoss(model, clicks)(batch), expected)
