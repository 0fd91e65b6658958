"""The files of a run folder."""

CONFIG_FILE, METRICS_FILE, OOF_FILE, PREDS_STATS_FILE = "config.yaml", "metrics.json", "oof.csv", "preds_stats.json"
CALIBRATION_FILE, STACK_FILE = "calibration.json", "stack.json"
CHECKPOINTS, TENSORBOARD = "ckpt", "tensorboard"
"""Folders: the weights of each fitted model, and its log."""
PLAN_STATE_FILE = "plan.json"
"""Of a finished plan: names its final run folder."""
