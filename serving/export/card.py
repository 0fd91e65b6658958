"""The model card of a bundle: what it was trained on, how good it is, and which gates it passed."""

from pathlib import Path
from typing import Any

from ranking.scoring import RunData
from recsys.data.dataset import PreparedDataset
from recsys.runs.config import package_versions, read_values
from recsys.runs.metrics import read_metrics


def model_card(run: Path, final: Path, data: RunData, dataset: PreparedDataset) -> dict[str, Any]:
    """Collects the card of a run.

    Args:
        run: the folder that is exported: a run, an ensemble or a plan.
        final: the run folder whose models are exported.
        data: its data set and members.
        dataset: the data set.
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
        },
        "versions": package_versions(),
    }


def _model(folder: Path) -> dict[str, Any]:
    """The settings that a member was trained with."""
    values = read_values(folder)
    return {key: values[key] for key in ("model", "trainer", "features") if key in values} | {
        "splits": list((values.get("run") or {}).get("splits", []))
    }
