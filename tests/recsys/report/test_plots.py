"""Plots with any name, number of bars and size of values; text between two `$` is no formula."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.logits import Logits
from recsys.report.comparison_plots import (
    limits_with_labels,
    plot_bars,
    plot_horizontal_bars,
    plot_learning_curves,
    plot_precision_recall,
)
from recsys.report.plots import drawing, plain_label, plot_reliability, plot_sweep, value_text

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


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([1.0, 3.6], (0.0, 5.0)),  # 28 % of the axis is right of the longest bar
        ([-3.6, -1.0], (-5.0, 0.0)),
        ([-1.1, 1.1], (-2.5, 2.5)),  # 28 % on both sides
        ([3.6], (0.0, 5.0)),
        ([0.0, 0.0], (0.0, 1.0)),
        ([-3.6e-7], (-5e-7, 0.0)),
        ([], (0.0, 1.0)),
    ],
)
def test_labels_of_bars_have_room_inside_the_axis(values: list[float], limits: tuple[float, float]) -> None:
    assert limits_with_labels(values) == pytest.approx(limits)


def test_a_reliability_panel_has_the_rows_and_clicks_of_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, p = np.array([0, 0, 0, 1] * 300), np.full(1200, 0.25)
    titles: list[str] = []

    @contextmanager
    def watched(*args: Any, **values: Any) -> Iterator[Any]:
        with drawing(*args, **values) as (figure, panels):
            yield figure, panels
            titles.extend(panel.get_title(loc="left") for panel in panels if panel.axison)

    monkeypatch.setattr("recsys.report.plots.drawing", watched)
    plot_reliability({"raw": p, "isotonic": p, "temperature": p}, label, tmp_path / "plot.png")
    assert titles == [f"{name}\n1,200 rows, 300 clicks" for name in ("raw", "isotonic", "temperature")]


def test_texts_by_hand() -> None:
    assert [value_text(value) for value in (12345.6, 0.1234, -0.0000123)] == ["12,346", "0.123", "-1.23e-05"]
    assert plain_label("a" * 20 + "b" * 20) == "a" * 15 + "…" + "b" * 16
