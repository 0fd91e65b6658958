"""Ids that training replaces by the rare and the missing id, so that unseen values score like an average one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from recsys.data.split import UnseenIds
from recsys.data.vocabulary import MISSING_ID, RARE_ID
from tests.helpers.small import prepare_small, small_table
from tests.helpers.training import quick, trainer_of

WIDE_START = DCNv2Config(embedding_dim=4, hidden_dims=(16,), embedding_init_std=1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Colors without a missing or a rare value; shops with many rare ones."""
    folder = tmp_path_factory.mktemp("unseen")
    table = small_table(3000)
    color = np.random.default_rng(1).choice(["red", "green", "blue"], 3000)
    table = table.set_column(table.column_names.index("color"), "color", pa.array(color))
    return prepare_small(table, folder / "raw", folder / "prepared", min_count=20)


def test_the_missing_share_of_reserved_ids_is_made_up(dataset: PreparedDataset) -> None:
    split = dataset.split("fold_0")
    rows = split.fit_rows.numbers()
    ids, numbers = split.table(rows)
    replaced, same_numbers = UnseenIds(split, 0.04, 0).table(rows)
    assert np.array_equal(numbers, same_numbers, equal_nan=True)
    color, shop = (split.schema.categorical.index(name) for name in ("color", "shop"))
    assert not np.isin(ids[:, color], (MISSING_ID, RARE_ID)).any()
    for reserved in (MISSING_ID, RARE_ID):
        assert abs((replaced[:, color] == reserved).mean() - 0.04) < 0.01
    assert (ids[:, shop] == RARE_ID).mean() > 0.04  # enough: no shop becomes rare
    assert np.array_equal(replaced[:, shop] == RARE_ID, (ids[:, shop] == RARE_ID) & (replaced[:, shop] != MISSING_ID))


def test_the_choice_depends_on_row_and_seed_alone(dataset: PreparedDataset) -> None:
    split = dataset.split("fold_0")
    rows = split.fit_rows.numbers()[:1000]
    unseen = UnseenIds(split, 0.1, 0)
    together = unseen.table(rows)[0]
    apart = np.concatenate([unseen.table(part)[0] for part in np.array_split(rows, 7)])
    assert np.array_equal(together, apart)
    assert not np.array_equal(together, UnseenIds(split, 0.1, 1).table(rows)[0])
    batch = unseen.batch(rows, ["seen"])
    assert np.array_equal(batch.sparse.values().view(-1, len(rows)).T.numpy(), together)
    assert torch.equal(batch.label, split.batch(rows, ["seen"]).label)


def test_no_share_changes_nothing(dataset: PreparedDataset) -> None:
    split = dataset.split("fold_0")
    rows = split.fit_rows.numbers()[:500]
    expected, batch = split.batch(rows, ["seen"]), UnseenIds(split, 0.0, 0).batch(rows, ["seen"])
    assert torch.equal(batch.sparse.values(), expected.sparse.values())
    assert torch.equal(batch.sequences.values(), expected.sequences.values())


def test_tokens_are_replaced_by_the_rare_id(dataset: PreparedDataset) -> None:
    split = dataset.split("fold_0")
    rows = split.fit_rows.numbers()
    before, after = split.batch(rows, ["seen"]).sequences, UnseenIds(split, 0.1, 0).batch(rows, ["seen"]).sequences
    is_changed = (before.values() != after.values()).numpy()
    assert abs(is_changed.mean() - 0.1) < 0.02
    assert (after.values().numpy()[is_changed] == RARE_ID).all()
    assert torch.equal(before.lengths(), after.lengths())


def test_an_unseen_value_scores_like_an_average_one_for_every_seed(dataset: PreparedDataset, tmp_path: Path) -> None:
    """The spread over seeds of an unseen color's score, with and without training of its id."""
    split = dataset.split("fold_0")
    batch = split.batch(split.held_out_rows.numbers(), ["seen"])
    color = split.schema.categorical.index("color")
    ids_FB = batch.sparse.values().view(-1, len(batch))
    seen = ids_FB[color].clone()
    spread = {}
    for share in (0.0, 0.1):
        gaps = []
        for seed in range(5):
            ids_FB[color] = seen
            torch.manual_seed(seed)
            model = DCNv2(WIDE_START, split.schema)
            config = quick(seed=seed, unseen_share=share, early_stopping=None)
            trainer = trainer_of(dataset, "fold_0", config, tmp_path / f"{share}-{seed}", model)
            trainer.fit()
            trainer.model.eval()
            with torch.no_grad():
                average = torch.sigmoid(trainer.model(batch)).mean()
                ids_FB[color] = RARE_ID
                gaps.append(float(torch.sigmoid(trainer.model(batch)).mean() - average))
        spread[share] = float(np.std(gaps))
        ids_FB[color] = seen
        if share:
            assert max(map(abs, gaps)) < 0.1
    assert spread[0.1] < 0.75 * spread[0.0]
