"""File names of a run folder."""

CONFIG_FILE, METRICS_FILE, OOF_FILE, PREDS_STATS_FILE = "config.yaml", "metrics.json", "oof.csv", "preds_stats.json"
CALIBRATION_FILE, STACK_FILE = "calibration.json", "stack.json"
CHECKPOINTS, TENSORBOARD = "ckpt", "tensorboard"
"""Folders with the checkpoint and the log of each fitted model."""
PLAN_STATE_FILE = "plan.json"
"""For a finished plan: contains the path of its final run folder."""
