"""Compares two finished runs of a plan on their shared rows, in all and by segment.

Shapes: N rows of a data set.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parts.comparison import compare_models
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.gates import EvaluateOn, EvaluateOnOrAuto
from recsys.evaluation.verdicts.gains import Compared
from recsys.evaluation.verdicts.own import EvaluatedRows
from recsys.runs.layout import OOF_FILE
from recsys.runs.predictions import RunPredictions, join_predictions, read_predictions
from recsys.system.files import is_done


def compare(state: PlanState, candidate: str, baseline: str, evaluate_on: EvaluateOn) -> Compared:
    """Compares two runs, candidate - baseline, on the rows that both were evaluated on."""
    notes, both = _notes(state, (candidate, baseline), evaluate_on), read_both(state, candidate, baseline, evaluate_on)
    if both is None:
        return Compared(baseline, None, notes=notes)
    return _compare(state, *both, baseline, f"{candidate} - {baseline}", notes)


def compare_segments(
    state: PlanState,
    candidate: str,
    baseline: str,
    evaluate_on: EvaluateOn,
    dataset: PreparedDataset,
    segmentation: str,
) -> dict[str, Compared]:
    """Compares two runs, candidate - baseline, within each segment; one segment `all` if a run is not finished."""
    notes, both = _notes(state, (candidate, baseline), evaluate_on), read_both(state, candidate, baseline, evaluate_on)
    if both is None:
        return {"all": Compared(baseline, None, notes=notes)}
    labels = segment_labels(dataset, both[0].row_id, segmentation)
    compared = {}
    for label in sorted(pc.unique(labels).drop_null().to_pylist()):
        positions = np.flatnonzero(np.asarray(pc.equal(labels, pa.scalar(label)).fill_null(False)))
        first, second = (predictions.take(positions) for predictions in both)
        compared[label] = _compare(state, first, second, baseline, f"{candidate} - {baseline}, {label}", notes)
    return compared


def _compare(
    state: PlanState, first: RunPredictions, second: RunPredictions, baseline: str, title: str, notes: tuple[str, ...]
) -> Compared:
    if not first.predictions.has_both_classes:
        return Compared(baseline, None, is_one_class=True, notes=notes)
    return Compared(baseline, _bootstrap(state, first, second, title), notes=notes)


def _notes(state: PlanState, names: tuple[str, str], evaluate_on: EvaluateOn) -> tuple[str, ...]:
    """Which of the runs were chosen on the rows that they are compared on."""
    found = {name: state.chosen_on_reported(name, evaluate_on) for name in names}
    return tuple(f"{name} {note}" for name, note in found.items() if note is not None)


def read_both(
    state: PlanState, candidate: str, baseline: str, evaluate_on: EvaluateOn
) -> tuple[RunPredictions, RunPredictions] | None:
    """Baseline and candidate on their shared rows; None if one of them is not finished."""
    runs = _read_joined(state, (baseline, candidate), evaluate_on)
    return None if runs is None else (runs[0], runs[1])


def read_evaluated_rows(
    state: PlanState, names: Sequence[str], evaluate_on: EvaluateOnOrAuto
) -> dict[str, EvaluatedRows] | None:
    """The predictions of runs on their shared rows, by run; None if one of them is not finished."""
    runs = _read_joined(state, names, state.resolve(evaluate_on))
    if runs is None:
        return None
    predictions = {name: run.predictions for name, run in zip(names, runs, strict=True)}
    return {
        name: EvaluatedRows(rows.label, rows.logits, rows.by_seed(), rows.weight, rows.user, rows.day)
        for name, rows in predictions.items()
    }


def _read_joined(state: PlanState, names: Sequence[str], evaluate_on: EvaluateOn) -> list[RunPredictions] | None:
    folders = [state.folder(name, evaluate_on) for name in names]
    if not all(is_done(folder) and (folder / OOF_FILE).is_file() for folder in folders):
        return None
    return join_predictions([read_predictions(folder) for folder in folders])


def check_segmentation(dataset: PreparedDataset, segmentation: str) -> None:
    """Raises InputError for a segmentation that the schema does not define."""
    segmentations = dataset.manifest.schema_.segments
    if segmentation not in segmentations:
        names = ", ".join(segmentations) or "empty"
        raise InputError(f"segmentation {segmentation!r} is not in schema.segments ({names}): correct the gate")


def row_numbers(dataset: PreparedDataset, row_id: pa.Array) -> np.ndarray:
    """[N] int64 row numbers of rows of a data set, given by their ids."""
    all_rows = np.arange(dataset.n_rows)
    return pc.index_in(row_id, value_set=pc.cast(dataset.store.row_ids(all_rows), pa.string())).to_numpy()


def segment_labels(dataset: PreparedDataset, row_id: pa.Array, segmentation: str) -> pa.Array:
    """[N] segment labels of rows, given by their ids."""
    return dataset.segments(row_numbers(dataset, row_id))[segmentation]


def _bootstrap(state: PlanState, first: RunPredictions, second: RunPredictions, title: str) -> Comparison:
    bootstrap = state.plan.bootstrap
    first_fits, second_fits = first.predictions.by_seed(), second.predictions.by_seed()
    return compare_models(first, first_fits, second_fits, title, bootstrap.replicates, bootstrap.seed)
