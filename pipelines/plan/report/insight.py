"""Sections of what `pipelines.importance` and `pipelines.drift` wrote for the runs and the data of a plan."""

from pathlib import Path

from pipelines.plan.state import PlanState, Runs
from recsys.config import validate
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.drift import DRIFT_FILE, Drift
from recsys.evaluation.importance import IMPORTANCE_FILE, Importances
from recsys.evaluation.shown import TITLES, format_interval, format_metric, interval_sd
from recsys.report.html import Block, Section, Table, plot, row
from recsys.report.insight_plots import plot_drift, plot_importance
from recsys.system.files import read_json

_N_FEATURES, _N_COLUMNS = 15, 5


def importance_section(state: PlanState, runs: Runs, plots: Path) -> Section:
    """What runs lose without a feature, of those whose folder has importance.json."""
    blocks: list[Block] = []
    for name in runs:
        folders = (state.folder(name, state.resolve("auto")), state.folder(name))
        path = next((path for folder in folders if (path := folder / IMPORTANCE_FILE).is_file()), None)
        if path is None:
            continue
        found = validate(Importances, read_json(path), str(path))
        title = TITLES[found.metric]
        rows = [
            row([one.name, *one.losses[found.metric].cells()])
            for one in (*found.groups, *found.features[:_N_FEATURES])
            if one.is_read
        ]
        caption = f"{name}: groups, and the {_N_FEATURES} features whose loss is largest; {found.n_rows:,} rows."
        blocks.append(
            Table(("group or feature", f"loss of {title}", f"95 % interval, by {found.by}"), tuple(rows), caption)
        )
        plot_importance(found, plots / f"importance-{name}.png")
        blocks.append(plot(plots / f"importance-{name}.png", f"Loss of {title} of {name}."))
    text = (
        "The loss of a metric when the values of a feature are exchanged between held-out rows. A feature that others "
        "can replace loses little."
    )
    return Section("Feature importance", text, blocks)


def drift_section(dataset: PreparedDataset, plots: Path) -> Section:
    """How well rows of different times can be told apart, if the prepared data set has drift.json."""
    path = dataset.folder / DRIFT_FILE
    if not path.is_file():
        return Section("Drift")
    found = validate(Drift, read_json(path), str(path))
    rows = []
    for one in found.comparisons:
        sd = interval_sd(one.low, one.high)
        causes = ", ".join(
            f"{column.name} ({column.gain:.0%})" for column in one.columns[:_N_COLUMNS] if column.gain > 0
        )
        interval = format_interval(one.low - 0.5, one.high - 0.5)
        rows.append(row([one.name, f"{one.n_rows:,}", format_metric(one.roc_auc, sd), interval, causes]))
    columns = ("earlier / later rows", "rows of each", "ROC-AUC", f"above .5, by {found.comparisons[0].by}", "columns")
    plot_drift(found, plots / "drift.png")
    text = (
        "A classifier tells later rows from earlier ones: a ROC-AUC of .5 means that no column differs. Columns are "
        "listed with their share of its gain."
    )
    return Section("Drift", text, [Table(columns, tuple(rows), text_columns=(4,)), plot(plots / "drift.png", "Drift.")])
