"""Chooses the settings of a retrieval run that its config leaves out, by the functions of `retrieval.defaults`."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.common.config import RetrievalConfig
from pipelines.common.retrieval_settings import RetrievalSettings
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.evaluation.shown import counted
from recsys.schema.config import Condition
from recsys.schema.resolved import Schema
from retrieval import defaults
from retrieval.config import RetrievalLoss, RetrievalStopping, RetrievalTrainerConfig
from retrieval.evaluation.history_baselines import item_histories
from retrieval.fit import positives_among, rows_to_train
from retrieval.pooling import SEQUENTIAL, Pooling
from retrieval.sequential.windows import windows
from retrieval.tower_features import causal_sequence, check_target, tower_features
from retrieval.two_tower import TwoTowerConfig

_LEAST_STEPS = 2.0
"""Mean steps of a history from which causal pooling has an order to learn."""
_LEAST_HELD_OUT = 100
"""Positives from which a part of them is held out for early stopping."""
_REPEATED_SHARE = 0.01
_N_CHECKED_ROWS = 100_000


def with_defaults(config: RetrievalConfig, split: Split, device: str) -> RetrievalConfig:
    """Returns the config with `resolve`d settings, for a split to fit on and a type of device."""
    return replace(config, retrieval=resolve(config.retrieval, split, split.validation_rows, device))


def resolve(settings: RetrievalSettings, split: Split, monitor: Rows | None, device: str) -> RetrievalSettings:
    """Returns the settings with a value for each key that was not set.

    Args:
        settings: as the config and the command line set them.
        split: the split to fit on.
        monitor: the data's own validation rows; None if it has none.
        device: type of the device, `cpu` or `cuda`.

    Raises:
        InputError: when the split has no positives, or the schema does not fit the towers.
    """
    if split.schema.label is None:
        settings = settings.model_copy(update={"positives": "all"})
    check_target(split.schema, tower_features(split.schema, ("user", "context")))
    rows = positives_among(split, split.fit_rows, settings.positives)
    if len(rows) == 0:
        raise InputError(f"split {split.name!r} has no positives to train retrieval on: add rows to it")
    if settings.exclude == "seen" and not item_histories(split.schema):
        raise InputError(
            "exclude=seen needs a history of the target item in schema.towers.user or schema.towers.context: name one, "
            "or set exclude=none"
        )
    model, steps = _resolve_model(settings, split, rows)
    has_score_parts = not model.is_sequential and split.schema.label is not None
    updates: dict[str, Any] = {
        "model": model,
        "trainer": _resolve_trainer(settings, model.pooling, steps, split, monitor, device),
    }
    if settings.is_auto("exclude"):
        updates["exclude"] = "none" if _has_repeats(split, rows) else "seen"
    if settings.is_auto("score_parts") and not has_score_parts:
        updates["score_parts"] = None
    return settings.model_copy(update=updates)


def describe_training(settings: RetrievalSettings, split: Split) -> str:
    """Returns one line on what is trained, for the start of a run."""
    config, loss = settings.trainer, settings.trainer.loss
    rows = rows_to_train(split, split.fit_rows, settings.positives, loss, config.seed)
    is_causal = settings.model.is_sequential
    n_rows = len(windows(split, rows, _causal_sequence(split.schema))[0]) if is_causal else len(rows)
    negatives = "all items" if loss.full_catalog else f"the batch and {loss.uniform_negatives:,} random items"
    if is_causal and not loss.full_catalog:
        negatives = f"{loss.n_sampled:,} sampled items"
    stopping = config.early_stopping
    parts = [
        f"batch {config.batch_size:,}",
        f"{counted(config.epochs, 'epoch')} of {counted(-(-n_rows // config.batch_size), 'step')}",
        f"learning rate {config.learning_rate:g}",
        f"{settings.model.pooling} pooling",
        *([f"negatives: {negatives}"] if loss.name != "logistic" else []),
        f"monitors {stopping.metric}, patience {stopping.patience}" if stopping else "no early stopping",
        *(["items of the history are excluded"] if settings.exclude == "seen" else []),
        *([f"the pairs of {settings.exclude_table} are excluded"] if settings.exclude == "table" else []),
    ]
    return ", ".join(parts)


def _resolve_model(settings: RetrievalSettings, split: Split, rows: Rows) -> tuple[TwoTowerConfig, float]:
    """Returns the towers' config, and the mean steps of a row with causal pooling, else 1."""
    model, steps = settings.model, 1.0
    if model.is_auto("pooling"):
        causal_steps = _causal_steps(settings, split, rows)
        pooling: Pooling = "causal" if causal_steps >= _LEAST_STEPS else "mean"
        model = model.model_copy(update={"pooling": pooling})
    if model.is_sequential:
        steps = windows(split, rows, _causal_sequence(split.schema))[1]
        wide: dict[str, Any] = {"embedding_dim": 64, "user_hidden_dims": (), "item_hidden_dims": ()}
        if defaults.has_constant_rate(model.pooling):
            wide |= {"similarity": "dot", "popularity_prior": False}
        model = model.model_copy(update={key: value for key, value in wide.items() if model.is_auto(key)})
    return model, steps


def _causal_sequence(schema: Schema) -> str:
    return causal_sequence(schema, tower_features(schema, ("user", "context")))


def _causal_steps(settings: RetrievalSettings, split: Split, rows: Rows) -> float:
    """Returns the mean steps of a row with causal pooling; 0 if it does not suit the data or the loss."""
    schema, sequences = split.schema, item_histories(split.schema)
    is_loss_free = settings.trainer.is_auto("loss") or settings.trainer.loss.full_catalog
    if len(sequences) != 1 or not is_loss_free or len(split.store.item_names) > defaults.MAX_CAUSAL_CATALOG:
        return 0.0
    log = schema.logs.get(sequences[0])
    if log is None or not _are_steps_positives(schema, log.where, settings.positives == "all"):
        return 0.0
    try:
        return windows(split, rows, sequences[0])[1]
    except InputError:  # the key has rare values: its rows cannot be told apart
        return 0.0


def _are_steps_positives(schema: Schema, where: Condition | None, are_all_positive: bool) -> bool:
    """Whether the rows that add a step to a history are the positives, which causal pooling trains on."""
    if where is None or are_all_positive:
        return where is None and are_all_positive
    if schema.label_condition is not None:
        return where == schema.label_condition
    is_one = where.values == ("1",) or (where.min is not None and 0 < where.min <= 1 and where.max is None)
    return where.column == schema.label and is_one


def _resolve_trainer(
    settings: RetrievalSettings, pooling: Pooling, steps: float, split: Split, monitor: Rows | None, device: str
) -> RetrievalTrainerConfig:
    config, n_items = settings.trainer, len(split.store.item_names)
    is_auto, is_causal = config.is_auto, pooling in SEQUENTIAL
    is_constant = defaults.has_constant_rate(pooling)
    values: dict[str, Any] = {}
    loss = config.loss
    if is_auto("loss"):
        is_full = is_causal or n_items <= defaults.MAX_FULL_CATALOG
        loss = values["loss"] = RetrievalLoss(full_catalog=is_full)
    rows = rows_to_train(split, split.fit_rows, settings.positives, loss, config.seed)
    batch_size = config.batch_size
    if is_auto("batch_size"):
        sizes = (
            defaults.causal_batch_size(len(rows), steps),
            defaults.retrieval_batch_size(len(rows), n_items, device),
        )
        batch_size = values["batch_size"] = sizes[0] if is_causal else sizes[1]
    if is_auto("loss") and not loss.full_catalog:
        values["loss"] = RetrievalLoss(uniform_negatives=defaults.uniform_negatives(n_items, batch_size))
    stopping = config.early_stopping
    if is_auto("early_stopping"):
        n_monitored = len(positives_among(split, monitor, settings.positives)) if monitor else 0
        if monitor is None and is_auto("epochs") and not is_causal:  # held out from the positives
            n_monitored = round(config.validation_fraction * len(positives_among(split, rows, settings.positives)))
            n_monitored = n_monitored if n_monitored >= _LEAST_HELD_OUT else 0
        patience = defaults.CONSTANT_RATE_PATIENCE if is_constant else defaults.retrieval_patience(n_monitored)
        stopping = values["early_stopping"] = RetrievalStopping(patience=patience) if n_monitored else None
    n_rows = max(1, round(len(rows) / steps))
    epochs = config.epochs
    if is_auto("epochs"):
        epochs = values["epochs"] = defaults.retrieval_epochs(n_rows, batch_size, stopping is not None)
        if is_constant and stopping is not None:
            epochs = values["epochs"] = defaults.CONSTANT_RATE_EPOCHS
    if is_constant:
        constant = {"final_learning_rate_fraction": 1.0, "warmup_fraction": defaults.CONSTANT_RATE_WARMUP}
        values |= {key: value for key, value in constant.items() if is_auto(key)}
    if is_auto("learning_rate"):
        values["learning_rate"] = defaults.retrieval_learning_rate(pooling)
    if is_auto("weight_average") and is_auto("epochs"):
        values["weight_average"] = defaults.retrieval_weight_average(epochs * -(-n_rows // batch_size))
    if is_auto("eval_batch_size"):
        longest = max((s.max_length for s in split.schema.token_sequences), default=1)
        values["eval_batch_size"] = defaults.retrieval_eval_batch_size(pooling, longest, device)
    return config.model_copy(update=values)


def _has_repeats(split: Split, rows: Rows) -> bool:
    """Whether rows have items of their own histories, or the towers read no history of target items."""
    sequences = item_histories(split.schema)
    if not sequences:
        return True
    numbers = rows(np.linspace(0, len(rows) - 1, min(len(rows), _N_CHECKED_ROWS)).astype(np.int64))
    stored = split.store.schema
    assert split.schema.target_item is not None
    codes = split.store.read_sparse(numbers)[:, stored.categorical.index(split.schema.target_item)]
    is_repeated = np.zeros(len(numbers), bool)
    for name in sequences:
        tokens, lengths = split.store.read_tokens(name, numbers)
        row = np.repeat(np.arange(len(numbers)), lengths)
        is_repeated[row[(tokens == codes[row]) & (tokens >= 2)]] = True
    return bool(is_repeated.mean() > _REPEATED_SHARE)
