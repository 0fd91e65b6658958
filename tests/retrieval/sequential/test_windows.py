"""Windows cover each step of the histories once."""

import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from retrieval.sequential.windows import windows


def test_windows_cover_every_step_once(film_log: PreparedDataset) -> None:
    split = film_log.split("full")
    chosen, mean = windows(split, split.fit_rows, "watched")
    rows = chosen.numbers()
    _, lengths = film_log.store.read_tokens("watched", rows)
    assert int(lengths.sum()) + len(rows) == len(split.fit_rows)
    assert mean == pytest.approx(len(split.fit_rows) / len(rows))
    user = film_log.store.read_sparse(rows)[:, 0]
    position = film_log.store.sequence_lengths("watched", rows)
    seen: set[tuple[int, int]] = set()
    for key, last, length in zip(user.tolist(), position.tolist(), lengths.tolist(), strict=True):
        covered = {(key, step) for step in range(last - length, last + 1)}
        assert not covered & seen
        seen |= covered


def test_windows_need_a_log_sequence(shops: PreparedDataset) -> None:
    split = shops.split("holdout")
    with pytest.raises(InputError, match="'seen' to be of kind log"):
        windows(split, split.fit_rows, "seen")
