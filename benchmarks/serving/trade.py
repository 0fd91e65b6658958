"""The score of every model of a finished plan against the latency and the size of its bundle, as a table and a plot."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from pipelines.plan.state import GATES
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.shown import TITLES, format_metric
from recsys.report.plots import COLORS, drawing
from recsys.report.tables import TextRow, text_table
from recsys.runs.layout import METRICS_FILE
from recsys.runs.metrics import read_metrics
from recsys.system.files import is_done, read_json
from recsys.system.progress import console
from recsys.system.world import join_world
from serving.export.example import request_of
from serving.export.run import export_run
from serving.measured import Measured, measure_bundle
from serving.runtime.bundle import Bundle
from serving.runtime.layout import NumberType

_N_CANDIDATES = 32
_METRIC: MetricName = "ap"


@dataclass(frozen=True)
class Point:
    """A run, and what its bundle costs."""

    name: str
    weights: NumberType
    score: float
    measured: Measured
    n_mib: float


def measure_trade(plan: Path, n_requests: int, data: Path) -> None:
    """Exports the runs of a plan in fp32 and int8, times requests of 32 candidates, prints a table and draws a plot.

    The score is that of the run's reported rows; by how much int8 changes it: `benchmarks.serving tables`.

    Raises:
        InputError: if the folder has no finished plan.
    """
    runs = [path for path in sorted(plan.glob("*-*")) if is_done(path) and (path / "oof.csv").is_file()]
    runs = [run for run in runs if not run.name.endswith(("-forward", "-tuning", "-holdout"))]
    # the final run has no rows of its own: its figure is that of the best run, on other rows
    runs = [run for run in runs if "estimated_on" not in read_json(run / METRICS_FILE)]
    runs = [run for run in runs if read_metrics(run).overall.value(_METRIC) is not None]
    if not runs or not (plan / GATES).is_dir():
        raise InputError(f"{plan} is not the folder of a finished plan: pass one that pipelines.plan wrote")
    points = []
    for run in runs:
        for weights in ("fp32", "int8"):
            try:
                points.append(_point(run, weights, n_requests, data / "trade" / f"{run.name}-{weights}"))
            except InputError as error:
                console.print(f"{run.name}: {error}")
                break
    rows = []
    for point in sorted(points, key=lambda point: -point.score):
        figures = (f"{point.measured.p50_ms:.2f}", f"{point.measured.p99_ms:.2f}")
        size = f"{point.n_mib:.1f}"
        memory, load = f"{point.measured.peak_gib:.2f}", f"{point.measured.load_s:.1f}"
        rows.append(TextRow((point.name, point.weights, format_metric(point.score), *figures, size, memory, load)))
    heads = ("run", "weights", TITLES[_METRIC], "p50 ms", "p99 ms", "MiB", "peak GiB", "load s")
    console.print(text_table(f"{_N_CANDIDATES} candidates of one user", heads, rows, n_left=2))
    path = data / "trade.png"
    draw(points, path)
    console.print(f"plot: {path}")


def _point(run: Path, weights: NumberType, n_requests: int, bundle: Path) -> Point:
    run_data = find_run_data(run)
    dataset = PreparedDataset.open(run_data.folder)
    if not is_done(bundle):
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_run(run, run_data, dataset, bundle, join_world(), weights=weights)
    columns, rng = Bundle.load(bundle).columns, np.random.default_rng(0)
    requests = [request_of(dataset, columns, rng.integers(0, dataset.n_rows, _N_CANDIDATES)) for _ in range(n_requests)]
    n_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    score = read_metrics(run).overall.value(_METRIC)
    assert score is not None
    return Point(run.name, weights, score, measure_bundle(bundle, requests), n_bytes / 2**20)


def draw(points: list[Point], path: Path) -> None:
    """Draws the score against the median latency, on a logarithmic axis."""
    with drawing(path, 7.5, 4.5) as (_, (axes,)):
        for number, point in enumerate(point for point in points if point.weights == "fp32"):
            place = (point.measured.p50_ms, point.score)
            axes.plot(*place, "o", color=COLORS[number % len(COLORS)])
            axes.annotate(point.name, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"milliseconds of a request of {_N_CANDIDATES} candidates, median")
        axes.set_ylabel(TITLES[_METRIC])
        axes.set_title("score against latency")
