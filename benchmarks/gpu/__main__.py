"""Training speed on a GPU: the trainer, its step alone, plain PyTorch, and the card.

python -m benchmarks.gpu
python -m benchmarks.gpu --only dcnv2 --only din
python -m benchmarks.gpu --device cpu --rows 20000
"""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu.card import bf16_rate, copy_rate
from benchmarks.gpu.data import nvidia_rows, toss_rows
from benchmarks.gpu.rates import Case, plain_rate, trainer_rates
from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.xdeepfm import XDeepFMConfig
from recsys.data.split import Split
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import World, join_world

COMPILED: dict[str, Any] = {"compile": "on"}
UNCOMPILED: dict[str, Any] = {"compile": "off"}
ALL_FUSED: dict[str, Any] = {"compile": "on", "embeddings": {"fused_from_rows": 1, "l2": 0.0}}
HIDDEN = (256, 128, 64)
DCNV2 = DCNv2Config(hidden_dims=HIDDEN)
FT_TRANSFORMER = FTTransformerConfig(d_model=256, n_layers=4, n_heads=8, numeric_tokens="fourier", readout="cls")
NVIDIA = DCNv2Config(embedding_dim=128, cross_depth=3, cross_rank=512, hidden_dims=(1024, 1024, 512, 256))
PLAN_ROWS, PLAN_EPOCHS, PLAN_FITS = 10_700_000, 3, 5.0
"""Rows and epochs of the plan, and the fits of a model in it in units of all rows: five folds and the holdout."""


def cases(is_small: bool) -> dict[str, list[Case]]:
    """The models and batch sizes to measure, by name."""
    if is_small:
        size = 1024
        return {
            "dcnv2": [Case(DCNV2, size, COMPILED)],
            "xdeepfm": [Case(XDeepFMConfig(cin_dims=(128, 128), hidden_dims=HIDDEN), size)],
            "din": [Case(DINConfig(), size)],
            "ft_transformer": [Case(FT_TRANSFORMER.model_copy(update={"d_model": 32}), 256)],
            "nvidia": [Case(NVIDIA.model_copy(update={"embedding_dim": 16}), size, ALL_FUSED | {"compile": "off"})],
        }
    xdeepfm = XDeepFMConfig(cin_dims=(128, 128), hidden_dims=HIDDEN)
    return {
        "dcnv2": [Case(DCNV2, size, COMPILED) for size in (65_536, 16_384)] + [Case(DCNV2, 65_536, UNCOMPILED)],
        "xdeepfm": [Case(xdeepfm, 65_536, COMPILED)],
        "din": [Case(DINConfig(), 65_536, UNCOMPILED), Case(DINConfig(), 65_536, COMPILED)],
        "ft_transformer": [Case(FT_TRANSFORMER, 8192, COMPILED)],
        "nvidia": [Case(NVIDIA, 65_536, ALL_FUSED)],
    }


def gpu(
    device: Annotated[str, typer.Option(help="cuda, or cpu for a small rehearsal.")] = "cuda",
    rows: Annotated[int, typer.Option(min=2000, help="Rows of an epoch.")] = 4_000_000,
    largest_table: Annotated[int, typer.Option(min=100, help="Rows of NVIDIA's largest table.")] = 1_000_000,
    only: Annotated[list[str] | None, typer.Option(help="What to measure; repeat it for more. Default: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the figures as JSON lines.")] = None,
) -> None:
    """Measure training speed on a GPU and print a table."""
    keep_freed_memory()
    world = join_world()
    if world.device.type != device:
        raise typer.BadParameter(f"this process uses {world.device.type}", param_hint="--device")
    is_small, lines = device == "cpu", []

    def report(kind: str, **values: Any) -> None:
        lines.append(json.dumps({"kind": kind, **values}))
        console.print(lines[-1])
        if out is not None:
            out.write_text("\n".join(lines) + "\n")

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    report("card", name=name, bf16_tflops=bf16_rate(world.device) / 1e12, copy_tb_s=copy_rate(world.device) / 1e12)
    wanted = {key: value for key, value in cases(is_small).items() if not only or key in only}
    with tempfile.TemporaryDirectory() as folder:
        toss: Split | None = None
        for key, of_model in wanted.items():
            if key == "nvidia":
                top = min(largest_table, rows)
                split = nvidia_rows(rows, top, Path(folder)).split("full")
            else:
                split = toss = toss or toss_rows(rows, Path(folder)).split("full")
            for case in of_model:
                measure_ours(key, case, split, world, report)
        if toss is not None and (not only or "plain" in only):
            measure_plain(toss, world, 1024 if is_small else 16_384, report)


def measure_ours(key: str, case: Case, split: Split, world: World, report: Any) -> None:
    """Reports the rates of our trainer."""
    start = time.perf_counter()
    try:
        rates = trainer_rates(case, split, world, 3 if world.device.type == "cpu" else 20)
    except Exception as error:  # one failure must not lose the other figures
        report("error", model=key, batch_size=case.batch_size, error=f"{type(error).__name__}: {error}"[:1500])
        return
    hours = PLAN_ROWS * PLAN_EPOCHS * PLAN_FITS / rates.trainer / 3600
    took = round(time.perf_counter() - start, 1)
    settings = {"model": key, "batch_size": case.batch_size, **case.trainer}
    report("ours", **settings, **asdict(rates), hours_in_plan=hours, took_s=took)


def measure_plain(split: Split, world: World, batch_size: int, report: Any) -> None:
    """Reports the rates of plain PyTorch's DCN V2."""
    case = Case(DCNV2, batch_size)
    for is_compiled, is_graphed in ((False, False), (False, True), (True, True)):
        rate = plain_rate(case, split, world.device, is_compiled=is_compiled, is_graphed=is_graphed, n_steps=10)
        report("plain", model="dcnv2", batch_size=batch_size, compiled=is_compiled, graph=is_graphed, step=rate)


if __name__ == "__main__":
    typer.run(gpu)
