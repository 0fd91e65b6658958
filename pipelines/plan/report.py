"""The HTML report of a plan: gates, models, curves, segments, sweeps, retrieval, ensembles, cost and submission."""

from pathlib import Path

from pipelines.plan.config import EnsembleStep, FinalStep, RankStep
from pipelines.plan.estimates import as_text
from pipelines.plan.gates import Differences, compare
from pipelines.plan.report_sections import curves, ensembles, retrieval, segments, sweeps
from pipelines.plan.state import PlanState, Runs
from pipelines.plan.steps import SUBMISSION_FILE
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.comparison import COMPARED
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import MetricName, Metrics
from recsys.evaluation.shown import TITLES, format_metric, format_metrics, shown_metrics, titles
from recsys.report.comparison_plots import plot_differences, plot_horizontal_bars
from recsys.report.html import Block, Cell, Row, Section, Table, plot, row, write_html
from recsys.runs.metrics import FinalMetrics, TrainSummary
from recsys.runs.submission import read_summary

REPORT_FILE, PLOTS = "report.html", "plots"
_COMPARED: tuple[MetricName, ...] = ("logloss", "roc_auc", "ap")


def write_report(state: PlanState, dataset: PreparedDataset) -> Path:
    """Writes report.html and its plots, also as files, and returns the path of report.html."""
    plots = state.out / PLOTS
    plots.mkdir(exist_ok=True)
    runs: Runs = {
        step.name: metrics
        for step in state.plan.steps
        if isinstance(step, RankStep | EnsembleStep) and (metrics := state.metrics(step.name)) is not None
    }
    sections = [
        _gates(state),
        _not_applicable(state),
        _models(state, runs, plots),
        curves(state, runs, plots),
        segments(state, runs, plots),
        sweeps(state),
        retrieval(state),
        ensembles(state, runs, plots),
        _cost(state, runs, plots),
        _submission(state),
    ]
    train = [group for group in dataset.groups if group.partition == "train"]
    n, n_positive = sum(group.n_rows for group in train), sum(group.n_positive for group in train)
    summary = (
        f"{dataset.name}: {n:,} training rows, {n_positive:,} clicks ({100 * n_positive / n:.3f} %). Metrics are "
        "out-of-fold unless stated otherwise; intervals are 95 % intervals of the paired bootstrap."
    )
    write_html(state.plan.name, summary, sections, state.out / REPORT_FILE)
    return state.out / REPORT_FILE


def _gates(state: PlanState) -> Section:
    rows: list[Row] = []
    for name, gate in state.plan.gates.items():
        for verdict in state.verdicts(name):
            for index, check in enumerate(verdict.checks):
                head: list[str | Cell] = ["", ""]
                tail = ["", ""]
                if index == 0:
                    head = [name, Cell(verdict.outcome, verdict.outcome)]
                    tail = [", ".join(f"{role}: {run}" for role, run in verdict.runs.items()), gate.description]
                passed = Cell(check.what, verdict.result_of(check))
                cells = [*head, passed, check.value_text, check.interval_text, check.threshold, *tail]
                rows.append(row(cells, "part" if index < len(verdict.checks) - 1 else ""))
    columns = ("gate", "verdict", "check", "value", "95 % interval", "required", "runs", "description")
    text = "A rejected run cannot be chosen as the best run, but it stays in the ensemble."
    return Section("Gates", text, [Table(columns, tuple(rows), text_columns=(2, 5, 6, 7))] if rows else [])


def _not_applicable(state: PlanState) -> Section:
    """The steps and gates that the data set cannot run."""
    reasons = dict(state.not_applicable.steps)
    reasons |= {f"gate {name}": reason for name, reason in state.not_applicable.gates.items()}
    if state.not_applicable.holdout is not None:
        reasons["runs on the holdout"] = state.not_applicable.holdout
    rows = tuple(row([name, reason]) for name, reason in reasons.items())
    table = Table(("step or gate", "why it did not run"), rows, text_columns=(1,))
    return Section("Not applicable", "", [table] if rows else [])


def _models(state: PlanState, runs: Runs, plots: Path) -> Section:
    reference, rejected, rows = state.plan.reference, state.rejected(), []
    shown, metric = shown_metrics(state.named_metrics), state.metric
    best = max(runs, key=lambda name: runs[name].overall.signed(metric), default=None)
    for name, metrics in runs.items():
        holdout = state.metrics(name, "holdout")
        cells: list[str | Cell] = [name, Cell("rejected", "reject") if name in rejected else ""]
        cells += [*_counts(metrics.overall), *format_metrics(metrics.overall, shown, metrics.sd)]
        cells.append(format_metric(metrics.sd[metric], metrics.sd[metric]))
        cells.append("" if holdout is None else format_metric(holdout.overall.value(metric)))
        rows.append(row(cells, "strong" if name == best else ""))
    baselines = next((metrics.baselines for metrics in runs.values() if metrics.baselines), {})
    for name, figures in baselines.items():
        rows.append(row([name, "", *_counts(figures), *format_metrics(figures, shown), "", ""], "dim"))
    if (bayes := _bayes(state, "folds")) is not None:
        bayes_holdout = _bayes(state, "holdout")
        last = "" if bayes_holdout is None else format_metric(bayes_holdout.value(metric))
        rows.append(row(["true probabilities", "", *_counts(bayes), *format_metrics(bayes, shown), "", last], "dim"))
    title = TITLES[metric]
    columns = ("run", "gate", "rows", "positive", *titles(shown), f"sd of {title}", f"{title}, holdout")
    blocks: list[Block] = [Table(columns, tuple(rows), text_columns=(1,))]
    if differences := differences_to_reference(state, runs):
        path = plots / "comparison.png"
        compared = dict.fromkeys((*_COMPARED, *(name for name in (metric,) if name in COMPARED)))
        plot_differences(differences, list(compared), reference, path)
        caption = (
            f"Difference to {reference} on the same rows. Green: better; red: worse; grey: the interval includes 0."
        )
        blocks.append(plot(path, caption))
    text = "Each row is scored by a model that was not trained on it; sd is the standard deviation over folds."
    return Section("Models", text, blocks if runs else [])


def _counts(metrics: Metrics) -> tuple[str, str]:
    return f"{metrics.n_rows:,}", f"{metrics.n_positive:,}"


def _bayes(state: PlanState, evaluate_on: EvaluateOn) -> Metrics | None:
    """The metrics of the true click probabilities; None if they are unknown."""
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            metrics = state.metrics(step.name, evaluate_on)
            if metrics is not None and metrics.bayes is not None:
                return metrics.bayes
    return None


def differences_to_reference(state: PlanState, runs: Runs) -> dict[str, Differences]:
    """The differences of each run to the plan's reference run."""
    differences = {}
    for name in runs:
        if name != state.plan.reference and (d := compare(state, name, state.plan.reference, "folds")) is not None:
            differences[name] = d
    return differences


def _cost(state: PlanState, runs: Runs, plots: Path) -> Section:
    trained = {name: metrics.train for name, metrics in runs.items() if isinstance(metrics.train, TrainSummary)}
    if not trained:
        return Section("Time and memory")
    rows = [
        row(
            [
                name,
                f"{train.rows_per_s:,.0f}",
                as_text(train.seconds),
                f"{100 * train.waited_s / train.seconds:.1f} %",
                f"{train.peak_rss_gib:.2f}",
                f"{train.peak_gpu_gib:.2f}",
                train.precision,
            ]
        )
        for name, train in trained.items()
    ]
    columns = (
        "run",
        "rows/s",
        "training time",
        "waiting for data",
        "peak RAM, GiB",
        "peak GPU memory, GiB",
        "precision",
    )
    path = plots / "cost.png"
    panels = {
        "minutes of training, all folds": {name: train.seconds / 60 for name, train in trained.items()},
        "thousand rows/s": {name: train.rows_per_s / 1000 for name, train in trained.items()},
        "peak memory, GiB": {name: train.peak_rss_gib for name, train in trained.items()},
    }
    plot_horizontal_bars(panels, path)
    caption = "Time and memory of each run. For gbdt, rows/s counts a row once per round of trees."
    return Section("Time and memory", "", [Table(columns, tuple(rows)), plot(path, caption)])


def _submission(state: PlanState) -> Section:
    path = state.out / Path(SUBMISSION_FILE).with_suffix(".json")
    final = next((step for step in state.plan.steps if isinstance(step, FinalStep)), None)
    if final is None or not path.is_file():
        return Section("Submission")
    submission, metrics = read_summary(path), state.metrics_as(FinalMetrics, final.name)
    if metrics is None:
        return Section("Submission")
    best = metrics.best
    holdout = state.metrics(best, "holdout")
    estimates = {f"out-of-fold ({best})": metrics.overall}
    if holdout is not None:
        estimates[f"holdout ({best})"] = holdout.overall
    test_labels = "test labels"
    for key, title in (("by the labels", test_labels), ("best possible", "test labels, true probabilities")):
        if key in submission.metrics:
            estimates[title] = submission.metrics[key]
    shown = shown_metrics(state.named_metrics)
    rows = [
        row([name, *_counts(figures), *format_metrics(figures, shown)], "strong" if name == test_labels else "")
        for name, figures in estimates.items()
    ]
    scales = [
        row(
            [
                f"{scale} (submitted)" if scale == submission.scale else scale,
                format_metric(stats.mean),
                format_metric(stats.std),
            ]
        )
        for scale, stats in submission.predictions.items()
    ]
    text = (
        f"{submission.n_rows:,} rows, scored by {best}, retrained on all training rows. If test labels are known, the "
        "difference between the estimated metrics and those on the test labels is the optimism of the estimate."
    )
    blocks: list[Block] = [
        Table(("metrics on", "rows", "positive", *titles(shown)), tuple(rows)),
        Table(("scale", "mean", "std"), tuple(scales), "Distribution of the predictions."),
    ]
    return Section("Submission", text, blocks)
