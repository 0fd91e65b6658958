"""Loads the runs that a gate compares, and evaluates the gate.

Shapes: N rows of a data set.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parts.comparison import compare_models
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.comparison import Difference
from recsys.evaluation.gates import (
    CalibrationGate,
    ComparisonGate,
    DistributionGate,
    EvaluateOn,
    RetrievalGate,
    SegmentGate,
)
from recsys.evaluation.metrics import Metrics
from recsys.evaluation.verdicts import (
    Verdict,
    best_run,
    calibration_verdict,
    comparison_verdict,
    distribution_verdict,
    retrieval_verdict,
    segment_verdict,
)
from recsys.runs.layout import OOF_FILE, PREDS_STATS_FILE
from recsys.runs.predictions import RunPredictions, join_predictions, read_predictions
from recsys.system.files import is_done, read_json
from retrieval.evaluation.summary import RetrievalMetrics

Differences = dict[str, Difference]


def evaluate_gate(state: PlanState, name: str, dataset: PreparedDataset) -> Verdict:
    """Evaluates a gate on the finished runs; a missing run fails the gate."""
    gate = state.plan.gates[name]
    match gate:
        case ComparisonGate():
            candidate, baseline = state.candidate(gate, name), _baseline(state, gate.baselines, gate.evaluate_on)
            return comparison_verdict(
                name, gate, candidate, baseline, compare(state, candidate, baseline, gate.evaluate_on)
            )
        case SegmentGate():
            baseline = _baseline(state, gate.baselines, gate.evaluate_on)
            by_segment = compare_segments(state, gate.candidate, baseline, gate.evaluate_on, dataset, gate.segmentation)
            return segment_verdict(name, gate, baseline, by_segment)
        case RetrievalGate():
            baseline = _baseline(state, gate.baselines, gate.evaluate_on)
            recall, baseline_recall = _recall(state, gate)
            differences = compare(state, gate.candidate, baseline, gate.evaluate_on)
            return retrieval_verdict(name, gate, baseline, recall, baseline_recall, differences)
        case DistributionGate():
            folder = state.folder(gate.run)
            stats = read_json(folder / PREDS_STATS_FILE) if is_done(folder) else {}
            metrics = state.metrics(gate.run)
            return distribution_verdict(name, gate, pool_stats(stats, metrics.folds if metrics else {}))
        case CalibrationGate():
            metrics = state.metrics(gate.run)
            calibration = metrics.calibration if metrics else None
            return calibration_verdict(name, gate, dict(calibration.figures) if calibration else {})


def _recall(state: PlanState, gate: RetrievalGate) -> tuple[float | None, float | None]:
    """Recall of a retrieval run and of the gate's baseline ranking; None if not measured."""
    metrics = state.metrics_as(RetrievalMetrics, gate.retrieval)
    rankings = metrics.rankings if metrics else {}
    recall, baseline = (rankings.get(name, {}).get(f"recall@{gate.recall_at}") for name in ("two_tower", gate.over))
    return recall, baseline


def _baseline(state: PlanState, names: tuple[str, ...], evaluate_on: EvaluateOn) -> str:
    return best_run({name: state.score(name, evaluate_on) for name in names}, names) or names[0]


def read_both(
    state: PlanState, candidate: str, baseline: str, evaluate_on: EvaluateOn
) -> tuple[RunPredictions, RunPredictions] | None:
    """Baseline and candidate on their shared rows; None if one of them is not finished."""
    folders = [state.folder(name, evaluate_on) for name in (baseline, candidate)]
    if not all(is_done(folder) and (folder / OOF_FILE).is_file() for folder in folders):
        return None
    first, second = join_predictions([read_predictions(folder) for folder in folders])
    return first, second


def compare(state: PlanState, candidate: str, baseline: str, evaluate_on: EvaluateOn) -> Differences | None:
    """The differences candidate - baseline, by metric; None if one is not finished or the rows have a single class."""
    both = read_both(state, candidate, baseline, evaluate_on)
    return None if both is None else _bootstrap(state, *both, f"{candidate} - {baseline}")


def compare_segments(
    state: PlanState,
    candidate: str,
    baseline: str,
    evaluate_on: EvaluateOn,
    dataset: PreparedDataset,
    segmentation: str,
) -> Mapping[str, Differences | None]:
    """The differences candidate - baseline within each segment; None for segments with a single class."""
    both = read_both(state, candidate, baseline, evaluate_on)
    if both is None:
        return {"all": None}
    labels = segment_labels(dataset, both[0].row_id, segmentation)
    differences: dict[str, Differences | None] = {}
    for label in sorted(pc.unique(labels).to_pylist()):
        positions = np.flatnonzero(np.asarray(pc.equal(labels, pa.scalar(label))))
        first, second = (predictions.take(positions) for predictions in both)
        differences[label] = _bootstrap(state, first, second, f"{candidate} - {baseline}, {label}")
    return differences


def check_segmentation(dataset: PreparedDataset, segmentation: str) -> None:
    """Raises InputError for a segmentation that the schema does not define."""
    segmentations = dataset.manifest.schema_.segments
    if segmentation not in segmentations:
        names = ", ".join(segmentations) or "empty"
        raise InputError(f"segmentation {segmentation!r} is not in schema.segments ({names}): correct the gate")


def segment_labels(dataset: PreparedDataset, row_id: pa.Array, segmentation: str) -> pa.Array:
    """[N] segment labels of rows, given by their ids."""
    all_rows = np.arange(dataset.n_rows)
    row_numbers = pc.index_in(row_id, value_set=pc.cast(dataset.store.row_ids(all_rows), pa.string()))
    return dataset.segments(row_numbers.to_numpy())[segmentation]


def _bootstrap(state: PlanState, first: RunPredictions, second: RunPredictions, title: str) -> Differences | None:
    """The differences second - first, by metric; None if the rows have a single class."""
    bootstrap = state.plan.bootstrap
    if not first.predictions.has_both_classes:
        return None
    return compare_models(first, first.logits, second.logits, title, bootstrap.replicates, bootstrap.seed).differences


def pool_stats(
    fold_stats: Mapping[str, Mapping[str, Mapping[str, float]]], fold_metrics: Mapping[str, Metrics]
) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of p and q over all folds, pooled from those of each fold (preds_stats.json)."""
    if not fold_stats or set(fold_stats) - set(fold_metrics):
        return {}
    n = np.array([fold_metrics[name].n_rows for name in fold_stats], np.float64)
    share, pooled = n / n.sum(), {}
    for scale in ("p", "q"):
        mean, std = (np.array([stats[scale][key] for stats in fold_stats.values()]) for key in ("mean", "std"))
        pooled_mean = float(share @ mean)
        pooled_std = float(np.sqrt(share @ (std**2 + (mean - pooled_mean) ** 2)))
        pooled[scale] = {"mean": pooled_mean, "std": pooled_std}
    return pooled
