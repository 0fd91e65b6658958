"""Names of users in plots: text between two `$` is no formula."""

from pathlib import Path

import numpy as np

from recsys.evaluation.logits import Logits
from recsys.report.comparison_plots import plot_bars, plot_horizontal_bars, plot_learning_curves, plot_precision_recall
from recsys.report.plots import plot_reliability, plot_sweep

NAME = r"$\frac{$ 5$"


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label, p = rng.integers(0, 2, 200), rng.random(200)
    logits = Logits(np.log(p / (1 - p)), np.zeros(200))
    path = tmp_path / "plot.png"
    plots = (
        lambda: plot_bars({NAME: {NAME: 1.0, "b": 2.0}}, "AP", path),
        lambda: plot_horizontal_bars({"AP": {NAME: 1.0}}, path),
        lambda: plot_learning_curves({NAME: [[1.0, 2.0]]}, "AP", path),
        lambda: plot_precision_recall(label, {NAME: logits.natural}, path),
        lambda: plot_reliability({NAME: p}, label, path),
        lambda: plot_sweep([({"a": NAME, "b": x}, 1.0) for x in ("1", NAME)], "AP", path),
    )
    for plot in plots:
        path.unlink(missing_ok=True)
        plot()
        assert path.stat().st_size > 1000
