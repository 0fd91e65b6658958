"""The model card of a bundle: what it was trained on, how good it is, and which gates it passed."""

from pathlib import Path
from typing import Any

from ranking.scoring import RunData
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.comparison import metric_intervals
from recsys.runs.clusters import clusters_of
from recsys.runs.config import package_versions, read_values
from recsys.runs.layout import OOF_FILE
from recsys.runs.metrics import read_metrics
from recsys.runs.predictions import read_predictions


def model_card(final: Path, data: RunData, dataset: PreparedDataset, gates: dict[str, Any]) -> dict[str, Any]:
    """Collects the card of a run.

    Args:
        final: the run folder whose models are exported: of a run, an ensemble, or a plan's final run.
        data: its data set and members.
        dataset: the data set.
        gates: the verdicts of a plan's gates, by name.
    """
    manifest, metrics = dataset.manifest, read_metrics(final)
    members = data.members or {final.name: final}
    return {
        "run": final.name,
        "data": {
            "name": manifest.name,
            "fingerprint": manifest.fingerprint,
            "rows": dict(dataset.stats.n_rows),
            "sampling_rate": dataset.stats.sampling_rate,
        },
        "models": {name: _model(folder) for name, folder in members.items()},
        "metrics": {
            "overall": metrics.overall.model_dump(mode="json"),
            "folds": {name: fold.model_dump(mode="json") for name, fold in metrics.folds.items()},
            "spread": {name: spread.model_dump(mode="json") for name, spread in metrics.spread.items()},
            "intervals": _intervals(final),
        },
        "gates": gates,
        "versions": package_versions(),
    }


def _model(folder: Path) -> dict[str, Any]:
    """The settings that a member was trained with."""
    values = read_values(folder)
    return {key: values[key] for key in ("model", "trainer", "features") if key in values} | {
        "splits": list((values.get("run") or {}).get("splits", []))
    }


def _intervals(final: Path) -> dict[str, Any] | None:
    """95 % intervals of the reported metrics, by user where the data names users; None for a run on all rows."""
    if not (final / OOF_FILE).is_file():
        return None
    rows = read_predictions(final)
    by, cluster = clusters_of(rows, None)
    intervals = metric_intervals(rows.label, rows.logits, weight=rows.weight, cluster=cluster, by=by)
    return {"by": by, **{name: interval.model_dump() for name, interval in intervals.items()}}
