"""Defaults of retrieval as functions of the data: used for each setting that a config leaves out, or sets to `auto`.

The figures behind them are in docs/retrieval.md.
"""

from retrieval.pooling import SEQUENTIAL, Pooling

MAX_CAUSAL_CATALOG = 20_000
"""Items up to which causal pooling is chosen: it contrasts each step of a history with all items."""
MAX_FULL_CATALOG = 10_000
"""Items up to which each positive is contrasted with all items."""
_MAX_EPOCHS = 40


def retrieval_batch_size(n_positives: int, n_items: int, device: str) -> int:
    """Returns the positives per update: about a 360th of them, a power of 2 from 64 to 4,096.

    Fewer updates than some hundreds per epoch leave the towers at the popularity that they start from; batches below 64
    cost more time than they gain. A GPU computes 512 in the time of 64, so that a batch has at least 512 if that leaves
    20 updates. In-batch negatives of a large catalog need batches of at least 256.

    Args:
        n_positives: positives to train on.
        n_items: items of the catalog.
        device: type of the device, `cpu` or `cuda`.
    """
    least = 512 if device == "cuda" and n_positives >= 20 * 512 else 64
    if n_items > MAX_FULL_CATALOG:
        least = max(least, 256)
    return min(4096, max(least, _power_of_2(n_positives / 360)))


def causal_batch_size(n_positives: int, steps_per_row: float) -> int:
    """Returns the histories per update with causal pooling, which trains on every step of a history.

    About a 100th of the steps, from 512 to 4,096 of them: long histories need few rows.

    Args:
        n_positives: positives, each of them one step.
        steps_per_row: mean number of steps of a row.
    """
    n_steps = min(4096.0, max(512.0, n_positives / 100))
    return max(4, round(n_steps / steps_per_row))


def retrieval_epochs(n_positives: int, batch_size: int, has_monitor: bool) -> int:
    """Returns the epochs for about 3,000 updates, or 1,500 without early stopping, from 3 to 40.

    With early stopping the number only bounds training, and sets the length of the learning rate's schedule.

    Args:
        n_positives: positives, or histories, to train on.
        batch_size: the same, per update.
        has_monitor: whether early stopping ends the training.
    """
    n_updates = 3000 if has_monitor else 1500
    per_epoch = max(1, -(-n_positives // batch_size))
    return min(_MAX_EPOCHS, max(3, round(n_updates / per_epoch)))


def retrieval_learning_rate(pooling: Pooling) -> float:
    """Returns the peak learning rate: lower for a Transformer, which diverges at the rate of embeddings."""
    if has_constant_rate(pooling):
        return 0.001
    return 0.002 if pooling == "causal" else 0.003


def has_constant_rate(pooling: Pooling) -> bool:
    """Whether training has the recipe of eSASRec: inner products, a constant learning rate, and as many epochs as help.

    Source: Tikhonovich et al., "eSASRec", RecSys 2025.
    """
    return pooling in SEQUENTIAL and pooling != "causal"


CONSTANT_RATE_EPOCHS, CONSTANT_RATE_PATIENCE, CONSTANT_RATE_WARMUP = 100, 8, 0.005
"""Epochs, patience and warm-up at a constant learning rate."""


def retrieval_weight_average(n_updates: int) -> float:
    """Returns the decay of the moving average of weights, over about a 20th of the updates, at most 0.995."""
    return min(0.995, max(0.0, 1 - 20 / max(1, n_updates)))


def retrieval_patience(n_monitored: int) -> int:
    """Returns the epochs without improvement: more if few requests make the monitored metric noisy."""
    return 3 if n_monitored >= 5000 else 5


def retrieval_eval_batch_size(pooling: Pooling, max_history: int, device: str) -> int:
    """Returns the requests per batch of evaluation.

    Causal pooling holds several vectors of each step: about 200,000 steps fit beside the data, 2,000,000 on a GPU.
    """
    if pooling not in SEQUENTIAL:
        return 16_384
    n_steps = 2_000_000 if device == "cuda" else 200_000
    return max(64, min(16_384, _power_of_2(n_steps / max(1, max_history))))


def uniform_negatives(n_items: int, batch_size: int) -> int:
    """Returns the uniformly sampled negatives per batch: as many as the items of the batch, for items that are rare."""
    return min(n_items, max(256, batch_size))


def _power_of_2(value: float) -> int:
    """Returns the largest power of 2 up to a value, at least 1."""
    return 1 << max(0, int(value).bit_length() - 1)
