"""Training speed on a GPU: the trainer, its step alone, plain PyTorch, and the card.

python -m benchmarks.gpu
python -m benchmarks.gpu --only dcnv2 --only din
python -m benchmarks.gpu --device cpu --rows 20000
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.gpu.card import bf16_rate, copy_rate
from benchmarks.gpu.cases import DCNV2, Name, cases
from benchmarks.gpu.data import nvidia_rows, toss_rows
from benchmarks.gpu.rates import Case, parity, plain_rate, trainer_rates
from pipelines.common.cli import run_pipeline
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import World, join_world

PLAN_ROWS, PLAN_EPOCHS, PLAN_FITS = 10_700_000, 3, 5
"""Rows and epochs of the plan, and the fits of a model in units of all rows: five folds of 4/5, and the holdout."""
Report = Callable[..., None]


class Device(StrEnum):
    """The device to measure."""

    CUDA = "cuda"
    CPU = "cpu"


def gpu(
    device: Annotated[Device, typer.Option(help="cuda, or cpu for a small rehearsal.")] = Device.CUDA,
    rows: Annotated[int, typer.Option(min=2000, help="Rows of an epoch.")] = 4_000_000,
    largest_table: Annotated[int, typer.Option(min=100, help="Rows of NVIDIA's largest table.")] = 1_000_000,
    only: Annotated[list[Name] | None, typer.Option(help="What to measure; repeat it for more. Default: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the figures as JSON lines.")] = None,
) -> None:
    """Measure training speed on a GPU and print a table.

    The trainer's speed is that of the second epoch, from prepared data; the
    step's is that of updates with one batch that is on the device.
    """
    keep_freed_memory()
    world = join_world()
    if world.device.type != device:
        raise InputError(f"--device {device.value}: this process uses {world.device.type}")
    is_small, lines = device == Device.CPU, []

    def report(kind: str, **values: Any) -> None:
        lines.append({"kind": kind, **values})
        console.print(json.dumps(lines[-1]))
        if out is not None:
            out.write_text("".join(json.dumps(line) + "\n" for line in lines))

    name = torch.cuda.get_device_name() if device == Device.CUDA else "cpu"
    report("card", name=name, bf16_tflops=bf16_rate(world.device) / 1e12, copy_tb_s=copy_rate(world.device) / 1e12)
    wanted = set(only or Name)
    with tempfile.TemporaryDirectory() as folder:
        toss: PreparedDataset | None = None
        if wanted - {Name.NVIDIA}:
            toss = toss_rows(rows, Path(folder))
        for key, of_model in cases(is_small).items():
            if key in wanted:
                dataset = nvidia_rows(rows, min(largest_table, rows), Path(folder)) if key == Name.NVIDIA else toss
                assert dataset is not None
                for case in of_model:
                    measure_ours(key, case, dataset.split("full"), world, report)
        if toss is not None and Name.PLAIN in wanted:
            measure_plain(toss.split("full"), world, 1024 if is_small else 16_384, report)
        if toss is not None and Name.PARITY in wanted:
            report("parity", **parity(Case(DCNV2, 1024 if is_small else 16_384), toss.split("fold_0"), world))
    console.print(table(lines))


def measure_ours(key: Name, case: Case, split: Split, world: World, report: Report) -> None:
    """Reports the rates of our trainer."""
    start = time.perf_counter()
    try:
        rates = trainer_rates(case, split, world, 3 if world.device.type == "cpu" else 20)
    except Exception as error:  # one failure must not lose the other figures
        report("error", model=key, batch_size=case.batch_size, error=f"{type(error).__name__}: {error}"[:1500])
        return
    hours = PLAN_ROWS * PLAN_EPOCHS * PLAN_FITS / rates.trainer / 3600
    took = round(time.perf_counter() - start, 1)
    settings = {"model": key, "batch_size": case.batch_size, "compile": case.trainer.get("compile", "auto")}
    report("ours", **settings, **asdict(rates), hours_in_plan=hours, took_s=took)


def measure_plain(split: Split, world: World, batch_size: int, report: Report) -> None:
    """Reports the rates of plain PyTorch's DCN V2."""
    case = Case(DCNV2, batch_size)
    for is_compiled, is_graphed in ((False, False), (False, True), (True, True)):
        rate = plain_rate(case, split, world.device, is_compiled=is_compiled, is_graphed=is_graphed, n_steps=10)
        report("plain", model="dcnv2", batch_size=batch_size, compiled=is_compiled, graph=is_graphed, step=rate)


def table(lines: list[dict[str, Any]]) -> Table:
    """Tabulates the rates in rows/s."""
    shown = Table(title="rows/s; launches, waits and busy of one step", title_justify="left")
    for column in ("model", "batch", "compiled", "trainer", "step alone", "launches", "waits", "busy ms", "GiB"):
        shown.add_column(column, justify="left" if column == "model" else "right")
    for line in lines:
        if line["kind"] not in ("ours", "plain"):
            continue
        profile = line.get("profile") or {}
        is_ours = line["kind"] == "ours"
        shown.add_row(
            line["model"] if is_ours else f"plain {line['model']}{', graph' * line['graph']}",
            f"{line['batch_size']:,}",
            str(line["compile"] if is_ours and "compile" in line else line.get("compiled", "auto")),
            f"{line['trainer']:,.0f}" if is_ours else "",
            f"{line['step']:,.0f}",
            *(f"{profile[key]:.1f}" if profile else "" for key in ("launches", "waits", "busy_ms")),
            f"{line['peak_gib']:.1f}" if line.get("peak_gib") else "",
        )
    return shown


if __name__ == "__main__":
    run_pipeline(gpu)
