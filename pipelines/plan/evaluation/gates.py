"""Loads the runs that a gate compares, and evaluates the gate."""

from collections.abc import Mapping, Sequence

from pipelines.plan.evaluation.comparisons import compare, compare_segments, read_evaluated_rows
from pipelines.plan.evaluation.distribution import find_distribution
from pipelines.plan.evaluation.limits import measure_latency, measure_memory
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.gates import (
    CalibrationGate,
    ComparisonGate,
    Criterion,
    DistributionGate,
    EvaluateOn,
    LatencyGate,
    MemoryGate,
    OwnGate,
    RetrievalGate,
    SegmentGate,
)
from recsys.evaluation.verdicts.calibration import calibration_verdict
from recsys.evaluation.verdicts.comparison import comparison_verdict
from recsys.evaluation.verdicts.distribution import distribution_verdict
from recsys.evaluation.verdicts.gains import Compared
from recsys.evaluation.verdicts.limits import latency_verdict, memory_verdict
from recsys.evaluation.verdicts.own import own_verdict
from recsys.evaluation.verdicts.retrieval import retrieval_verdict
from recsys.evaluation.verdicts.segments import segment_verdict
from recsys.evaluation.verdicts.verdict import Verdict, best_run
from recsys.system.files import is_done
from recsys.system.world import World
from retrieval.candidates import RANKS_FILE, read_ranks
from retrieval.evaluation.baselines import NON_PERSONAL
from retrieval.evaluation.comparison import RecallComparison, compare_recall


def evaluate_gate(state: PlanState, name: str, dataset: PreparedDataset, world: World) -> Verdict:
    """Evaluates a gate on the finished runs; a missing run fails the gate."""
    gate = state.plan.gates[name]
    match gate:
        case ComparisonGate():
            candidate = state.candidate(gate, name)
            return comparison_verdict(name, gate, candidate, _compare_criteria(state, gate, candidate))
        case SegmentGate():
            return segment_verdict(name, gate, _compare_criteria_by_segment(state, gate, dataset))
        case RetrievalGate():
            over, recall = _compare_recall(state, gate)
            compared = _compare_criteria(state, gate, gate.candidate)
            if recall is None:
                return retrieval_verdict(name, gate, over, None, "", (), compared)
            notes = (recall.note,) if recall.note else ()
            return retrieval_verdict(name, gate, over, recall.difference, recall.basis, notes, compared)
        case DistributionGate():
            return distribution_verdict(name, gate, find_distribution(state, gate, dataset))
        case CalibrationGate():
            metrics = state.metrics(gate.run)
            calibration = metrics.calibration if metrics else None
            if calibration is None:
                return calibration_verdict(name, gate, None, {})
            return calibration_verdict(name, gate, calibration.chosen, calibration.gains)
        case OwnGate():
            return own_verdict(name, gate, read_evaluated_rows(state, gate.runs, gate.evaluate_on))
        case LatencyGate():
            return latency_verdict(name, gate, *measure_latency(state, gate, dataset, world))
        case MemoryGate():
            return memory_verdict(name, gate, *measure_memory(state, gate, dataset, world))


def _best_baselines(
    state: PlanState, names: Sequence[str], criteria: Sequence[Criterion], evaluate_on: EvaluateOn
) -> list[str]:
    """For each criterion, the baseline that is best by the criterion's own metric; the first if none is finished."""
    return [
        best_run({name: state.score(name, evaluate_on, criterion.metric) for name in names}, names) or names[0]
        for criterion in criteria
    ]


def _compare_criteria(state: PlanState, gate: ComparisonGate | RetrievalGate, candidate: str) -> list[Compared]:
    """For each criterion, the candidate compared with the criterion's baseline."""
    rows = state.resolve(gate.evaluate_on)
    baselines = _best_baselines(state, gate.baselines, gate.any_of, rows)
    by_baseline = {baseline: compare(state, candidate, baseline, rows) for baseline in dict.fromkeys(baselines)}
    return [by_baseline[baseline] for baseline in baselines]


def _compare_criteria_by_segment(
    state: PlanState, gate: SegmentGate, dataset: PreparedDataset
) -> Mapping[str, list[Compared]]:
    """By segment label, for each criterion: the candidate compared with the criterion's baseline."""
    rows = state.resolve(gate.evaluate_on)
    baselines = _best_baselines(state, gate.baselines, gate.any_of, rows)
    by_baseline = {
        baseline: compare_segments(state, gate.candidate, baseline, rows, dataset, gate.segmentation)
        for baseline in dict.fromkeys(baselines)
    }
    labels = next(iter(by_baseline.values()))
    return {label: [by_baseline[baseline][label] for baseline in baselines] for label in labels}


def _compare_recall(state: PlanState, gate: RetrievalGate) -> tuple[str, RecallComparison | None]:
    """The gate's baseline ranking, and the towers compared with it; None if one of them was not measured."""
    folder = state.folder(gate.retrieval)
    ranks = read_ranks(folder / RANKS_FILE) if is_done(folder) else None
    if ranks is None:
        return gate.over, None
    names = NON_PERSONAL if gate.over == "strongest" else (gate.over,)
    hits = {name: float((rank <= gate.recall_at).mean()) for name, rank in ranks.by_ranking.items()}
    over = best_run({name: hits.get(name) for name in names}, names)
    if over is None or "two_tower" not in hits:
        return gate.over, None
    first, second = ranks.by_ranking[over], ranks.by_ranking["two_tower"]
    bootstrap = state.plan.bootstrap
    comparison = compare_recall(
        first, second, gate.recall_at, ranks.user, n_replicates=bootstrap.replicates, seed=bootstrap.seed
    )
    return over, comparison
