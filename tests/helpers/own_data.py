"""A stranger's data: CSV files of categories and a click, without ids, days or sequences, and a config of columns."""

import csv
from pathlib import Path

import numpy as np
import yaml

CATEGORIES = {"country": 4, "device": 3, "ad": 8}
"""Number of values of each column."""
CONFIG = {"name": "mine", "schema": {"label": "clicked", "categorical": list(CATEGORIES)}}
SMALL = {
    "trainer": {"epochs": 1, "batch_size": 100},
    "prepare": {"n_folds": 2, "min_count": 2},
    "models": {
        "dcnv2": {"model": {"embedding_dim": 4, "hidden_dims": [8]}},
        "gbdt": {"model": {"n_trees": 8, "min_data_in_leaf": 20}, "trainer": {"trees_per_epoch": 4}},
    },
}
"""Settings of fast fits."""


def write_csv(path: Path, n: int = 400, seed: int = 0, has_label: bool = True) -> None:
    """Writes rows whose click depends on country and ad."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(0, n_values, n) for name, n_values in CATEGORIES.items()}
    p = 1 / (1 + np.exp(1.5 - 1.2 * (columns["country"] == 0) - 1.2 * (columns["ad"] < 3)))
    clicked = rng.random(n) < p
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(["clicked"] if has_label else []), *columns])
        for row in range(n):
            values = [f"{name}-{column[row]}" for name, column in columns.items()]
            writer.writerow([*([int(clicked[row])] if has_label else []), *values])


def write_own_data(folder: Path) -> None:
    """Writes train.csv, test.csv without labels, labels.csv with the labels of its rows, and mine.yaml."""
    write_csv(folder / "train.csv")
    write_csv(folder / "labels.csv", 60, seed=1)
    write_csv(folder / "test.csv", 60, seed=1, has_label=False)
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG | SMALL, sort_keys=False))
