"""The report of a plan: its gates, models side by side, their curves and segments, what they cost, the submission."""

from pathlib import Path
from typing import Any

from pipelines.plan.config import EnsembleStep, FinalStep, RankStep
from pipelines.plan.estimates import as_text
from pipelines.plan.judging import Differences, compare
from pipelines.plan.report_sections import curves, ensembles, retrieval, segments, sweeps
from pipelines.plan.state import PlanState, Runs
from pipelines.plan.steps import SUBMISSION_FILE
from recsys.data.dataset import PreparedDataset
from recsys.report.comparison_plots import plot_differences, plot_horizontal_bars
from recsys.report.html import Block, Cell, Row, Section, Table, number, plot, row, write_html
from recsys.system.files import read_json

REPORT_FILE, PLOTS = "report.html", "plots"
_SHOWN = ("ap", "wll", "roc_auc", "pr_auc", "logloss", "ece", "score")
_COMPARED = ("ap", "wll", "score")


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
                    tail = [" against ".join(verdict.runs.values()), gate.says]
                passed = Cell(check.what, "pass" if check.passed else "fail")
                value = "missing" if check.value is None else f"{check.value:+.5f}"
                interval = "" if check.low is None else f"{check.low:+.5f} .. {check.high:+.5f}"
                cells = [*head, passed, value, interval, check.threshold, *tail]
                rows.append(row(cells, "part" if place < len(verdict.checks) - 1 else ""))
    columns = ("gate", "verdict", "number", "value", "interval", "wanted", "measured on", "question")
    text = "A model that is rejected is out of the choice of the best, and stays in the ensemble."
    return Section("Gates", text, [Table(columns, tuple(rows), text_columns=(2, 5, 6, 7))] if rows else [])


def _models(state: PlanState, runs: Runs, plots: Path) -> Section:
    reference, rejected, rows = state.plan.reference, state.rejected(), []
    best = max(runs, key=lambda name: runs[name]["overall"]["score"], default=None)
    for name, metrics in runs.items():
        last = state.metrics(name, "last_day")
        cells: list[str | Cell] = [name, Cell("rejected", "reject") if name in rejected else ""]
        cells += [number(metrics["overall"][metric]) for metric in _SHOWN]
        cells += [number(metrics["spread"]["score"]["sd"]), "" if last is None else number(last["overall"]["score"])]
        rows.append(row(cells, "strong" if name == best else ""))
    bayes = {judged: _bayes(state, judged) for judged in ("folds", "last_day")}
    if (of_folds := bayes["folds"]) is not None:
        last_score = "" if bayes["last_day"] is None else number(bayes["last_day"]["score"])
        rows.append(row(["best possible", "", *[number(of_folds[metric]) for metric in _SHOWN], "", last_score]))
    columns = ("run", "gate", *_SHOWN, "sd of score", "score, last day")
    blocks: list[Block] = [Table(columns, tuple(rows), text_columns=(1,))]
    if differences := differences_to_reference(state, runs):
        path = plots / "comparison.png"
        plot_differences(differences, _COMPARED, reference, path)
        caption = f"Differences to {reference} on the same rows: green is better, red worse, grey may be chance."
        blocks.append(plot(path, caption))
    text = "Each row is scored by models that have not seen it; sd is over folds."
    return Section("Models", text, blocks if runs else [])


def _bayes(state: PlanState, judged: str) -> dict[str, Any] | None:
    """What the true probabilities reach, where they are known."""
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            metrics = state.metrics(step.name, "folds" if judged == "folds" else "last_day")
            if metrics is not None and "bayes" in metrics:
                found: dict[str, Any] = metrics["bayes"]
                return found
    return None


def differences_to_reference(state: PlanState, runs: Runs) -> dict[str, Differences]:
    """Each run's metrics less those of the plan's reference."""
    found = {}
    for name in runs:
        if name != state.plan.reference and (d := compare(state, name, state.plan.reference, "folds")) is not None:
            found[name] = d
    return found


def _cost(state: PlanState, runs: Runs, plots: Path) -> Section:
    trained = {name: metrics["train"] for name, metrics in runs.items() if "rows_per_s" in metrics["train"]}
    if not trained:
        return Section("Time and memory")
    rows = [
        row(
            [
                name,
                f"{train['rows_per_s']:,.0f}",
                as_text(train["seconds"]),
                f"{100 * train['waited_s'] / train['seconds']:.1f} %",
                f"{train['peak_rss_gib']:.2f}",
                f"{train['peak_gpu_gib']:.2f}",
                train["precision"],
            ]
        )
        for name, train in trained.items()
    ]
    columns = ("run", "rows/s", "training", "waiting for data", "GiB", "GiB of GPU", "precision")
    path = plots / "cost.png"
    panels = {
        "minutes of training, all folds": {name: train["seconds"] / 60 for name, train in trained.items()},
        "thousand rows/s": {name: train["rows_per_s"] / 1000 for name, train in trained.items()},
        "peak memory, GiB": {name: train["peak_rss_gib"] for name, train in trained.items()},
    }
    plot_horizontal_bars(panels, path)
    caption = "What each run took. For trees a row counts once for each round of trees."
    return Section("Time and memory", "", [Table(columns, tuple(rows)), plot(path, caption)])


def _submission(state: PlanState) -> Section:
    path = state.out / Path(SUBMISSION_FILE).with_suffix(".json")
    final = next((step for step in state.plan.steps if isinstance(step, FinalStep)), None)
    if final is None or not path.is_file():
        return Section("Submission")
    told, metrics = read_json(path), state.metrics(final.name) or {}
    best = metrics["best"]
    last = state.metrics(best, "last_day")
    estimates = {f"out-of-fold ({best})": metrics["overall"]}
    if last is not None:
        estimates[f"last day ({best})"] = last["overall"]
    measured = told.get("metrics", {})
    estimates |= {name: measured[name] for name in ("by the labels", "best possible") if name in measured}
    rows = [
        row(
            [name, f"{found['n_rows']:,}", *[number(found[metric]) for metric in _SHOWN]],
            "strong" if name == "by the labels" else "",
        )
        for name, found in estimates.items()
    ]
    scales = [
        row([scale + (", written" if scale == told["scale"] else ""), number(of["mean"]), number(of["std"])])
        for scale, of in told["predictions"].items()
    ]
    text = (
        f"{told['n_rows']:,} rows, by {best} trained once more on all rows. Estimates of how good it is stand beside "
        "what the labels of the test rows say, where these are known: the distance is each estimate's optimism."
    )
    blocks: list[Block] = [
        Table(("estimate", "rows", *_SHOWN), tuple(rows)),
        Table(("scale", "mean", "std"), tuple(scales), "The distribution of what was submitted."),
    ]
    return Section("Submission", text, blocks)
