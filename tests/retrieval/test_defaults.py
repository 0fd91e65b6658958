"""Defaults at sizes of known data sets."""

import pytest

from retrieval.defaults import (
    causal_batch_size,
    retrieval_batch_size,
    retrieval_epochs,
    retrieval_eval_batch_size,
    retrieval_learning_rate,
    retrieval_patience,
    retrieval_weight_average,
    uniform_negatives,
)


@pytest.mark.parametrize(
    ("n_positives", "n_items", "device", "expected"),
    [
        (100, 50, "cpu", 64),
        (92_000, 8_700, "cpu", 128),
        (92_000, 8_700, "cuda", 512),
        (5_000, 8_700, "cuda", 64),  # 512 would leave 10 updates
        (5_000, 50_000, "cpu", 256),  # in-batch negatives
        (1_000_000, 3_700, "cpu", 2048),
        (10**9, 10**6, "cuda", 4096),
    ],
)
def test_batch_size(n_positives: int, n_items: int, device: str, expected: int) -> None:
    assert retrieval_batch_size(n_positives, n_items, device) == expected


def test_batches_of_histories_have_a_bounded_number_of_steps() -> None:
    assert causal_batch_size(98_000, 40.0) == 24  # 980 steps
    assert causal_batch_size(988_000, 100.0) == 41  # at most 4,096 steps
    assert causal_batch_size(1_000, 4.0) == 128  # at least 512 steps
    assert causal_batch_size(1_000, 1_000.0) == 4


def test_epochs_give_a_number_of_updates() -> None:
    assert retrieval_epochs(92_000, 128, has_monitor=True) == 4
    assert retrieval_epochs(92_000, 1024, has_monitor=True) == 33
    assert retrieval_epochs(92_000, 1024, has_monitor=False) == 17
    assert retrieval_epochs(1, 64, has_monitor=True) == 40
    assert retrieval_epochs(10**9, 4096, has_monitor=True) == 3


def test_other_settings() -> None:
    assert retrieval_learning_rate("causal") < retrieval_learning_rate("mean")
    assert retrieval_weight_average(10) == 0
    assert retrieval_weight_average(200) == pytest.approx(0.9)
    assert retrieval_weight_average(10**6) == 0.995
    assert retrieval_patience(500) > retrieval_patience(50_000)
    assert retrieval_eval_batch_size("mean", 50, "cpu") == 16_384
    assert retrieval_eval_batch_size("causal", 200, "cpu") == 512
    assert retrieval_eval_batch_size("causal", 10**6, "cpu") == 64
    assert uniform_negatives(100, 64) == 100
    assert uniform_negatives(10**6, 64) == 256
    assert uniform_negatives(10**6, 4096) == 4096
