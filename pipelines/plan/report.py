"""The report of a plan: its gates, models side by side, their curves and segments, what they cost, the submission."""

from pathlib import Path

from pipelines.plan.config import EnsembleStep, FinalStep, RankStep
from pipelines.plan.estimates import as_text
from pipelines.plan.gates import Differences, compare
from pipelines.plan.report_sections import curves, ensembles, retrieval, segments, sweeps
from pipelines.plan.state import PlanState, Runs
from pipelines.plan.steps import SUBMISSION_FILE
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import METRIC_NAMES, MetricName, Metrics, format_metric
from recsys.report.comparison_plots import plot_differences, plot_horizontal_bars
from recsys.report.html import Block, Cell, Row, Section, Table, plot, row, write_html
from recsys.runs.metrics import FinalMetrics, TrainSummary
from recsys.runs.submission import read_summary

REPORT_FILE, PLOTS = "report.html", "plots"
_COMPARED: tuple[MetricName, ...] = ("ap", "wll", "toss_score")


def write_report(state: PlanState, dataset: PreparedDataset) -> Path:
    """Writes report.html, and the plots within it as files; the HTML file's place."""
    plots = state.out / PLOTS
    plots.mkdir(exist_ok=True)
    runs: Runs = {
        step.name: metrics
        for step in state.plan.steps
        if isinstance(step, RankStep | EnsembleStep) and (metrics := state.metrics(step.name)) is not None
    }
    sections = [
        _gates(state),
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
        f"{dataset.name}: {n:,} training rows, {n_positive:,} clicks ({100 * n_positive / n:.3f} %). Figures are "
        "out-of-fold unless said otherwise; intervals hold 95 % of the paired bootstrap."
    )
    write_html(state.plan.name, summary, sections, state.out / REPORT_FILE)
    return state.out / REPORT_FILE


def _gates(state: PlanState) -> Section:
    rows: list[Row] = []
    for name, gate in state.plan.gates.items():
        for verdict in state.verdicts(name):
            for place, check in enumerate(verdict.checks):
                head: list[str | Cell] = ["", ""]
                tail = ["", ""]
                if place == 0:
                    head = [name, Cell(verdict.outcome, verdict.outcome)]
                    tail = [" against ".join(verdict.runs.values()), gate.description]
                passed = Cell(check.what, "pass" if check.passed else "fail")
                cells = [*head, passed, check.value_text, check.interval_text, check.threshold, *tail]
                rows.append(row(cells, "part" if place < len(verdict.checks) - 1 else ""))
    columns = ("gate", "verdict", "number", "value", "interval", "wanted", "measured on", "question")
    text = "A model that is rejected is out of the choice of the best, and stays in the ensemble."
    return Section("Gates", text, [Table(columns, tuple(rows), text_columns=(2, 5, 6, 7))] if rows else [])


def _models(state: PlanState, runs: Runs, plots: Path) -> Section:
    reference, rejected, rows = state.plan.reference, state.rejected(), []
    best = max(runs, key=lambda name: runs[name].overall.toss_score or 0.0, default=None)
    for name, metrics in runs.items():
        holdout = state.metrics(name, "holdout")
        cells: list[str | Cell] = [name, Cell("rejected", "reject") if name in rejected else ""]
        cells += [*metrics.overall.formatted(), format_metric(metrics.spread["toss_score"].sd)]
        cells.append("" if holdout is None else format_metric(holdout.overall.toss_score))
        rows.append(row(cells, "strong" if name == best else ""))
    if (bayes := _bayes(state, "folds")) is not None:
        bayes_holdout = _bayes(state, "holdout")
        last = "" if bayes_holdout is None else format_metric(bayes_holdout.toss_score)
        rows.append(row(["best possible", "", *bayes.formatted(), "", last]))
    columns = ("run", "gate", *METRIC_NAMES, "sd of toss_score", "toss_score, holdout")
    blocks: list[Block] = [Table(columns, tuple(rows), text_columns=(1,))]
    if differences := differences_to_reference(state, runs):
        path = plots / "comparison.png"
        plot_differences(differences, _COMPARED, reference, path)
        caption = f"Differences to {reference} on the same rows: green is better, red worse, grey may be chance."
        blocks.append(plot(path, caption))
    text = "Each row is scored by models that have not seen it; sd is over folds."
    return Section("Models", text, blocks if runs else [])


def _bayes(state: PlanState, evaluate_on: EvaluateOn) -> Metrics | None:
    """The metrics of the true probabilities, where they are known."""
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            metrics = state.metrics(step.name, evaluate_on)
            if metrics is not None and metrics.bayes is not None:
                return metrics.bayes
    return None


def differences_to_reference(state: PlanState, runs: Runs) -> dict[str, Differences]:
    """Each run's metrics less those of the plan's reference."""
    found = {}
    for name in runs:
        if name != state.plan.reference and (d := compare(state, name, state.plan.reference, "folds")) is not None:
            found[name] = d
    return found


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
    columns = ("run", "rows/s", "training", "waiting for data", "GiB", "GiB of GPU", "precision")
    path = plots / "cost.png"
    panels = {
        "minutes of training, all folds": {name: train.seconds / 60 for name, train in trained.items()},
        "thousand rows/s": {name: train.rows_per_s / 1000 for name, train in trained.items()},
        "peak memory, GiB": {name: train.peak_rss_gib for name, train in trained.items()},
    }
    plot_horizontal_bars(panels, path)
    caption = "What each run took. For trees a row counts once for each round of trees."
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
    for name in ("by the labels", "best possible"):
        if name in submission.metrics:
            estimates[name] = submission.metrics[name]
    rows = [
        row([name, f"{found.n_rows:,}", *found.formatted()], "strong" if name == "by the labels" else "")
        for name, found in estimates.items()
    ]
    scales = [
        row([f"{scale}, written" if scale == submission.scale else scale, f"{of.mean:.5f}", f"{of.std:.5f}"])
        for scale, of in submission.predictions.items()
    ]
    text = (
        f"{submission.n_rows:,} rows, by {best} trained once more on all rows. Estimates of how good it is are shown "
        "beside what the labels of the test rows say, where these are known: the difference is its optimism."
    )
    blocks: list[Block] = [
        Table(("estimate", "rows", *METRIC_NAMES), tuple(rows)),
        Table(("scale", "mean", "std"), tuple(scales), "The distribution of what was submitted."),
    ]
    return Section("Submission", text, blocks)
