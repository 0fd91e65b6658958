"""Smaller tables: size of a bundle, and the change of AP on the held-out fold with its interval."""

from pathlib import Path

import numpy as np
from rich.table import Table
from sklearn.metrics import average_precision_score

from benchmarks.serving.requests import bundle_of
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.system.progress import console
from serving.export.parity import as_request
from serving.runtime.bundle import Bundle
from serving.runtime.encoder import Needs
from serving.runtime.layout import MODELS, NumberType

TYPES: tuple[NumberType, ...] = ("fp32", "fp16", "int8")
_REPLICATES, _BLOCK = 500, 8192


def measure_tables(models: list[str], data: Path) -> None:
    """Prints sizes and AP of the bundles of each model, on the rows that fold 0's model did not see."""
    table = Table(title="tables in fp32, fp16 and int8", title_justify="left")
    for column in (
        "model",
        "tables",
        "MiB of tables",
        "MiB of the bundle",
        "AP",
        "AP less that of fp32, 95 %",
        "logit",
    ):
        table.add_column(column, justify="left" if column in ("model", "tables") else "right")
    for model in models:
        logits: dict[str, np.ndarray] = {}
        for kind in TYPES:
            run, folder = bundle_of(model, data, kind)
            bundle = Bundle.load(folder)
            dataset = PreparedDataset.open(find_run_data(run).folder)
            rows = np.sort(dataset.split("fold_0").held_out_rows.numbers())
            label = dataset.store.labels(rows)
            needs = Needs.of(bundle.spec)
            requests = [
                as_request(dataset.store.encoded(rows[start : start + _BLOCK]), bundle.spec, needs)
                for start in range(0, len(rows), _BLOCK)
            ]
            logits[kind] = np.concatenate([bundle.natural_logits([request]) for request in requests])
            low, high = _interval(label, logits[kind], logits["fp32"])
            files = [path for path in folder.rglob("*") if path.is_file()]
            in_tables = [path for path in files if path.parent.name == MODELS and path.suffix == ".npy"]
            sizes = [sum(path.stat().st_size for path in paths) for paths in (in_tables, files)]
            change = "" if kind == "fp32" else f"{low:+.5f} .. {high:+.5f}"
            largest = np.abs(logits[kind] - logits["fp32"]).max()
            figures = (f"{size / 2**20:.2f}" for size in sizes)
            ap = average_precision_score(label, logits[kind])
            table.add_row(model, kind, *figures, f"{ap:.5f}", change, f"{largest:.1g}")
    console.print(table)


def _interval(label: np.ndarray, logits: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference in AP, by the paired bootstrap of rows."""
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(_REPLICATES):
        rows = rng.integers(0, len(label), len(label))
        differences.append(
            average_precision_score(label[rows], logits[rows]) - average_precision_score(label[rows], reference[rows])
        )
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
