"""File names of a run folder."""

CONFIG_FILE, METRICS_FILE, OOF_FILE, PREDS_STATS_FILE = "config.yaml", "metrics.json", "oof.csv", "preds_stats.json"
CALIBRATION_FILE, STACK_FILE = "calibration.json", "stack.json"
CHECKPOINTS, TENSORBOARD = "ckpt", "tensorboard"
"""Folders with the checkpoint and the log of each fitted model."""
PLAN_STATE_FILE = "plan.json"
"""For a finished plan: contains the path of its final run folder."""


def fit_name(split: str, number: int) -> str:
    """The name of a fit of a split with the seed of a number from 0."""
    return split if number == 0 else f"{split}-seed_{number}"
