"""The section on top: what was adopted, what it brings, and what it costs."""

from pipelines.plan.config import FinalStep
from pipelines.plan.dry_run.estimates import as_text
from pipelines.plan.report.sections import trained_runs
from pipelines.plan.state import PlanState
from pipelines.plan.steps import BUNDLE_FOLDER
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.shown import TITLES, format_interval, format_metric, interval_sd
from recsys.evaluation.verdicts.gains import basis_of
from recsys.evaluation.verdicts.verdict import Outcome
from recsys.report.html import Cell, Row, Section, Table, row
from recsys.runs.metrics import FinalMetrics, RunMetrics
from recsys.system.files import is_done

_SHOWN: tuple[MetricName, ...] = ("logloss", "roc_auc", "ap")


def summary_section(state: PlanState, runs: dict[str, RunMetrics], compared: dict[str, Comparison]) -> Section:
    """The final model (before the last step: the best run so far), its gain over the reference, gates and cost.

    Args:
        state: the plan.
        runs: the finished runs and ensembles.
        compared: each of them compared with the plan's reference run.
    """
    final = next((step for step in state.plan.steps if isinstance(step, FinalStep)), None)
    metrics = state.metrics_as(FinalMetrics, final.name) if final is not None else None
    rejected = state.rejected()
    best = metrics.best if metrics is not None else None
    if best is None:
        allowed = [name for name in runs if name not in rejected]
        best = max(allowed, key=lambda name: runs[name].overall.signed(state.metric), default=None)
    if best is None:
        return Section("Summary")
    is_final = metrics is not None
    notes = [_members(metrics), state.chosen_on_reported(best, state.resolve("auto")) or ""]
    what = "final model" if is_final else "best run so far"
    rows = [row([what, Cell(best, "adopt"), "; ".join(note for note in notes if note)])]
    rows += _gain_rows(state, best, compared.get(best))
    outcomes: dict[Outcome, list[str]] = {}
    for gate, verdicts in state.final_verdicts().items():
        if verdicts:
            outcomes.setdefault(verdicts[-1].outcome, []).append(gate)
    for outcome, gates in outcomes.items():
        rows.append(row([f"gates: {outcome}", Cell(str(len(gates)), outcome), ", ".join(gates)]))
    if rejected:
        rows.append(row(["cannot be the final model", Cell(str(len(rejected)), "reject"), ", ".join(sorted(rejected))]))
    rows += _cost_rows(state, is_final)
    return Section("Summary", "", [Table(("", "result", "details"), tuple(rows), text_columns=(2,))])


def _members(metrics: FinalMetrics | None) -> str:
    names = list((metrics.member_folders if metrics is not None else None) or {})
    return f"retrained on all rows: {', '.join(names)}" if names else ""


def _gain_rows(state: PlanState, best: str, comparison: Comparison | None) -> list[Row]:
    if comparison is None:
        return []
    rows = []
    for name in dict.fromkeys((state.metric, *_SHOWN)):
        found = comparison.differences.get(name)
        if found is None:
            continue
        sd = interval_sd(found.low, found.high)
        text = f"{format_metric(found.difference, sd, '+')} ({format_interval(found.low, found.high)})"
        what = f"{TITLES[name]}, {best} - {state.plan.reference}"
        levels = f"{format_metric(found.first, sd)} to {format_metric(found.second, sd)}; {basis_of(comparison)}"
        rows.append(row([what, text, levels]))
    return rows


def _cost_rows(state: PlanState, is_final: bool) -> list[Row]:
    seconds = [train.seconds for train in trained_runs(state).values()]
    rows = [row(["training", as_text(sum(seconds)), f"{len(seconds)} runs with all their folds and seeds"])]
    bundle = state.out / BUNDLE_FOLDER
    if is_final and is_done(bundle):
        n_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        rows.append(
            row(["to deploy", f"{n_bytes / 2**20:,.1f} MiB", f"{BUNDLE_FOLDER}: pipelines.serve answers with it"])
        )
    return rows
