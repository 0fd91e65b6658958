"""The page: summary, gates, models, curves, segments, sweeps, retrieval, ensembles, cost and submission."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.plan.choices import CHOSEN_ON_REPORTED
from pipelines.plan.config import EnsembleStep, FinalStep, RankStep
from pipelines.plan.dry_run.estimates import as_text
from pipelines.plan.evaluation.comparisons import compare
from pipelines.plan.final_scores import members_with_score
from pipelines.plan.report.gates import gates_section, not_applicable_section
from pipelines.plan.report.insight import drift_section, importance_section
from pipelines.plan.report.sections import curves, ensembles, retrieval, segments, sweeps, trained_runs
from pipelines.plan.report.summary import summary_section
from pipelines.plan.rows import TITLES as TITLES_OF_ROWS
from pipelines.plan.state import PlanState, Runs
from pipelines.plan.steps import BUNDLE_FOLDER, SUBMISSION_FILE
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import MetricName, Metrics
from recsys.evaluation.shown import TITLES, format_metric, format_metrics, shown_metrics, titles
from recsys.evaluation.verdicts.gains import basis_of
from recsys.report.comparison_plots import plot_differences, plot_horizontal_bars
from recsys.report.html import Block, Cell, Section, Table, plot, row, write_html
from recsys.runs.metrics import FinalMetrics, TrainSummary
from recsys.runs.submission import read_summary
from recsys.system.files import is_done

REPORT_FILE, PLOTS = "report.html", "plots"
_REPORTED: tuple[EvaluateOn, ...] = ("folds", "forward", "holdout")
_ROWS = TITLES_OF_ROWS | {"folds": "out-of-fold rows"}
_COMPARED: tuple[MetricName, ...] = ("logloss", "roc_auc", "ap")


def write_report(state: PlanState, dataset: PreparedDataset) -> Path:
    """Writes report.html and its plots, also as files, and returns the path of report.html."""
    plots = state.out / PLOTS
    plots.mkdir(exist_ok=True)
    rows = state.resolve("auto")
    runs: Runs = {
        step.name: metrics
        for step in state.plan.steps
        if isinstance(step, RankStep | EnsembleStep) and (metrics := state.metrics(step.name, rows)) is not None
    }
    compared = compared_to_reference(state, runs)
    sections = [
        summary_section(state, runs, compared),
        gates_section(state),
        not_applicable_section(state),
        _models(state, runs, compared, plots),
        curves(state, runs, plots),
        segments(state, runs, plots),
        sweeps(state),
        retrieval(state),
        ensembles(state, runs, plots),
        importance_section(state, runs, plots),
        drift_section(dataset, plots),
        _cost(state, plots),
        _submission(state),
    ]
    train = [group for group in dataset.groups if group.partition == "train"]
    n, n_positive = sum(group.n_rows for group in train), sum(group.n_positive for group in train)
    summary = (
        f"{dataset.name}: {n:,} training rows, {n_positive:,} clicks ({100 * n_positive / n:.3f} %). Metrics are "
        f"those of predictions of the {_ROWS[rows]} unless stated otherwise; intervals are 95 % intervals of the "
        "paired bootstrap."
    )
    write_html(state.plan.name, summary, sections, state.out / REPORT_FILE)
    return state.out / REPORT_FILE


def _models(state: PlanState, runs: Runs, compared: dict[str, Comparison], plots: Path) -> Section:
    reference, rejected, table_rows = state.plan.reference, state.rejected(), []
    shown, metric, rows = shown_metrics(state.named_metrics), state.metric, state.resolve("auto")
    others = [other for other in _REPORTED if other != rows]
    best = max(runs, key=lambda name: runs[name].overall.signed(metric), default=None)
    for name, metrics in runs.items():
        cells: list[str | Cell] = [name, Cell("rejected", "reject") if name in rejected else ""]
        cells += [*_counts(metrics.overall), *format_metrics(metrics.overall, shown, metrics.sd)]
        cells.append(format_metric(metrics.sd[metric], metrics.sd[metric]))
        for other in others:
            on_other = state.metrics(name, other)
            cells.append("" if on_other is None else format_metric(on_other.overall.value(metric)))
        cells.append(state.chosen_on_reported(name, rows) or "")
        table_rows.append(row(cells, "strong" if name == best else ""))
    empty = [""] * (len(others) + 2)
    baselines = next((metrics.baselines for metrics in runs.values() if metrics.baselines), {})
    for name, figures in baselines.items():
        table_rows.append(row([name, "", *_counts(figures), *format_metrics(figures, shown), *empty], "dim"))
    if (bayes := _bayes(state, rows)) is not None:
        last = [(found.value(metric) if (found := _bayes(state, other)) else None) for other in others]
        tail = ["", *("" if value is None else format_metric(value) for value in last), ""]
        cells = ["true probabilities", "", *_counts(bayes), *format_metrics(bayes, shown), *tail]
        table_rows.append(row(cells, "dim"))
    title = TITLES[metric]
    on_others = [f"{title}, {TITLES_OF_ROWS[other]}" for other in others]
    columns = ("run", "gate", "rows", "positive", *titles(shown), f"sd of {title}", *on_others, "note")
    blocks: list[Block] = [Table(columns, tuple(table_rows), text_columns=(1, len(columns) - 1))]
    if compared:
        path = plots / "comparison.png"
        differences = {name: comparison.differences for name, comparison in compared.items()}
        names = [name for name in dict.fromkeys((*_COMPARED, metric)) if all(name in d for d in differences.values())]
        plot_differences(differences, names, reference, path)
        basis = "; ".join(dict.fromkeys(basis_of(comparison) for comparison in compared.values()))
        caption = (
            f"Difference to {reference} on the same rows. Green: better; red: worse; grey: the interval includes 0. "
            f"The intervals are drawn over {basis}."
        )
        blocks.append(plot(path, caption))
    text = (
        "Each row is scored by a model that was not trained on it; sd is the standard deviation over folds or windows. "
        "The best run is the best of several on these rows: its own figure is optimistic by what the choice is worth."
    )
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


def compared_to_reference(state: PlanState, runs: Runs) -> dict[str, Comparison]:
    """Each run compared with the plan's reference run, on the rows that gates judge on."""
    rows = state.resolve("auto")
    names = [name for name in runs if name != state.plan.reference]
    compared = {name: compare(state, name, state.plan.reference, rows).comparison for name in names}
    return {name: comparison for name, comparison in compared.items() if comparison is not None}


def _cost(state: PlanState, plots: Path) -> Section:
    trained = trained_runs(state)
    if not trained:
        return Section("Time and memory")
    path = plots / "cost.png"
    panels = {
        "minutes of training, all folds": {name: train.seconds / 60 for name, train in trained.items()},
        "thousand rows/s": {name: train.rows_per_s / 1000 for name, train in trained.items()},
        "peak memory, GiB": {name: train.peak_rss_gib for name, train in trained.items()},
    }
    plot_horizontal_bars(panels, path)
    caption = "Time and memory of each run. For gbdt, rows/s counts a row once per round of trees."
    return Section("Time and memory", "", [cost_table(trained), plot(path, caption)])


def cost_table(trained: Mapping[str, TrainSummary]) -> Table:
    """Speed, time and memory of each run; GPU memory if some run used a GPU."""
    columns: dict[str, Callable[[TrainSummary], str]] = {
        "rows/s": lambda train: f"{train.rows_per_s:,.0f}",
        "training time": lambda train: as_text(train.seconds),
        "waiting for data": lambda train: f"{100 * train.waited_s / train.seconds:.1f} %",
        "peak RAM, GiB": lambda train: f"{train.peak_rss_gib:.2f}",
        "peak GPU memory, GiB": lambda train: f"{train.peak_gpu_gib:.2f}",
        "precision": lambda train: train.precision,
    }
    if not any(train.peak_gpu_gib for train in trained.values()):
        del columns["peak GPU memory, GiB"]
    rows = [row([name, *(cell(train) for cell in columns.values())]) for name, train in trained.items()]
    return Table(("run", *columns), tuple(rows))


def _submission(state: PlanState) -> Section:
    path = state.out / Path(SUBMISSION_FILE).with_suffix(".json")
    final = next((step for step in state.plan.steps if isinstance(step, FinalStep)), None)
    if final is None or not path.is_file():
        return Section("Submission")
    submission, metrics = read_summary(path), state.metrics_as(FinalMetrics, final.name)
    if metrics is None:
        return Section("Submission")
    with_score = members_with_score(state.folder(final.name))
    best, chosen_on = metrics.best, state.resolve(final.evaluate_on)
    note = state.chosen_on_reported(best, chosen_on)
    estimates = {}
    for rows_of_estimate in dict.fromkeys((chosen_on, *_REPORTED)):
        figures = state.metrics(best, rows_of_estimate)
        if figures is not None:
            is_chosen = rows_of_estimate == chosen_on and len(final.best_of) > 1
            choice = f"; {CHOSEN_ON_REPORTED}: best of {len(final.best_of)}" if is_chosen else ""
            estimates[f"{TITLES_OF_ROWS[rows_of_estimate]} ({best}){choice}"] = figures.overall
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
    scored = f"; {', '.join(with_score)} read the retrieval score" if with_score else ""
    text = (
        f"{submission.n_rows:,} rows, scored by {best}, retrained on all training rows{scored}. If test labels are "
        "known, the difference between the estimated metrics and those on the test labels is the optimism of the "
        f"estimate.{f' Settings of {best} were {note}.' if note else ''}"
    )
    if is_done(state.out / BUNDLE_FOLDER):
        text += f" pipelines.serve answers requests with it from the folder {BUNDLE_FOLDER}."
    blocks: list[Block] = [
        Table(("metrics on", "rows", "positive", *titles(shown)), tuple(rows)),
        Table(("scale", "mean", "std"), tuple(scales), "Distribution of the predictions."),
    ]
    return Section("Submission", text, blocks)
