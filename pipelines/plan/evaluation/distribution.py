"""The distribution of a run's reported predictions, for a distribution gate.

Shapes: N rows of a data set.
"""

import numpy as np

from pipelines.plan.config import EnsembleStep
from pipelines.plan.evaluation.comparisons import row_numbers
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.gates import DistributionGate, EvaluateOn
from recsys.evaluation.logits import logit_of
from recsys.evaluation.verdicts.distribution import Distribution
from recsys.runs.layout import OOF_FILE
from recsys.runs.predictions import RunPredictions, join_predictions, read_predictions
from recsys.system.files import is_done


def find_distribution(state: PlanState, gate: DistributionGate, dataset: PreparedDataset) -> Distribution | None:
    """The distribution of a run's predictions, with the spread that the truth or an ensemble reaches on the same rows.

    None if the run is not finished.
    """
    rows = state.resolve(gate.evaluate_on)
    run = _read(state, gate.run, rows)
    if run is None:
        return None
    true_p = dataset.truth(row_numbers(dataset, run.row_id))
    if true_p is not None:
        return distribution_of(run, logit_of(true_p), "the true probabilities")
    ensembles = [step.name for step in state.plan.steps if isinstance(step, EnsembleStep) and step.name != gate.run]
    for name in ensembles:
        if (ensemble := _read(state, name, rows)) is not None:
            run, ensemble = join_predictions([run, ensemble])
            return distribution_of(run, ensemble.logits.natural, name)
    return distribution_of(run, None, "")


def _read(state: PlanState, name: str, evaluate_on: EvaluateOn) -> RunPredictions | None:
    folder = state.folder(name, evaluate_on)
    return read_predictions(folder) if is_done(folder) and (folder / OOF_FILE).is_file() else None


def distribution_of(run: RunPredictions, reference_logit: np.ndarray | None, reference: str) -> Distribution:
    """The distribution of predictions.

    Args:
        run: the predictions.
        reference_logit: [N] natural logits of the reference; None if there is none.
        reference: its name.
    """
    weight = run.predictions.weight_in_full_log
    weight = np.ones(len(run.label)) if weight is None else weight.astype(np.float64)
    share, p, logit = weight / weight.sum(), run.logits.p.astype(np.float64), run.logits.natural
    rate = float(share @ run.label)
    return Distribution(
        observed_rate=rate,
        rate_sd=float(np.sqrt(np.sum((share * (run.label - rate)) ** 2))),
        mean_p=float(share @ p),
        std_p=_std(share, p),
        std_logit=_std(share, logit),
        reachable_std=None if reference_logit is None else _std(share, reference_logit),
        reference=reference,
    )


def _std(share: np.ndarray, values: np.ndarray) -> float:
    """The standard deviation of [N] values with weights that sum to one."""
    mean = share @ values
    return float(np.sqrt(share @ (values - mean) ** 2))
