"""Tables of a plan's report."""

import pytest

from pipelines.plan.report.page import cost_table
from recsys.runs.metrics import TrainSummary


def summary(peak_gpu_gib: float) -> TrainSummary:
    return TrainSummary(
        rows_per_s=1234.5,
        seconds=20,
        waited_s=1,
        peak_rss_gib=2.5,
        peak_gpu_gib=peak_gpu_gib,
        n_processes=1,
        precision="fp32",
        fits={},
    )


@pytest.mark.parametrize(("peak_gpu_gib", "memory"), [(0.0, []), (3.25, ["3.25"])])
def test_gpu_memory_is_shown_if_some_run_used_a_gpu(peak_gpu_gib: float, memory: list[str]) -> None:
    table = cost_table({"a": summary(0.0), "b": summary(peak_gpu_gib)})
    assert ("peak GPU memory, GiB" in table.columns) == bool(memory)
    cells = [cell.text for cell in table.rows[1].cells]
    assert cells == ["b", "1,234", "20 s", "5.0 %", "2.50", *memory, "fp32"]
    assert len(cells) == len(table.columns)
