"""Training speed, side by side in one run: ours, plain PyTorch, DeepCTR-Torch, and the machine's own limit.

python -m benchmarks.training
python -m benchmarks.training --data frappe
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.contest import Score, Task
from pipelines.cli import CONFIGS, run_pipeline
from pipelines.config import load_rank_config
from pipelines.data import find_prepared
from recsys.progress import console

ROUNDS = 2
TARGET_AUC = 0.9840


class Data(StrEnum):
    """What to train on."""

    TOSS = "toss"
    FRAPPE = "frappe"


def training(
    data: Annotated[Data, typer.Option(help="toss: generated rows; frappe: the public data set.")] = Data.TOSS,
    rows: Annotated[int, typer.Option(min=1000, help="Generated rows; four fifths are trained on.")] = 500_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the generated rows' training.")] = 16_384,
) -> None:
    """Measure training speed as ratios, each side by side in this run.

    Every contender has a process of its own and all cores; they take turns, and each one's best turn counts.
    """
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    if data == Data.TOSS:
        toss(rows, batch_size)
    else:
        frappe()


def toss(rows: int, batch_size: int) -> None:
    """DCNv2 with the plan's defaults, one epoch."""
    # Early stopping judges the epoch here, and stops nothing.
    judged = "trainer.early_stopping={weights: {roc_auc: 1}, patience: 99}"
    overrides = [f"generator.n_rows={rows}", f"trainer.batch_size={batch_size}", "trainer.epochs=1", judged]
    settings = load_rank_config(CONFIGS / "toss.yaml", "dcnv2", overrides)
    folder = find_prepared(settings.data, None).folder
    task = Task(str(folder), "fold_0", settings.model.model_dump(), settings.trainer.model_dump())

    names = ["ours", "plain", "limit"]
    if importlib.util.find_spec("deepctr_torch") is not None:
        names.append("deepctr")
    scores = contest(task, names)
    # a fifth of the rows, five times over: as many steps
    fewer = [*overrides, f"generator.n_rows={rows // 5}", "trainer.epochs=5"]
    few = load_rank_config(CONFIGS / "toss.yaml", "dcnv2", fewer)
    few_folder = find_prepared(few.data, None).folder
    less = run("ours", replace(task, prepared=str(few_folder), trainer=few.trainer.model_dump()))
    sharded = run("ours", task, n_processes=2, threads=1)

    ours = scores["ours"]
    assert ours.waiting is not None
    table = Table(title=f"DCNv2, {rows * 4 // 5:,} rows, batch {batch_size:,}", title_justify="left")
    for column in ("", "rows/s", "ROC-AUC", "ours / it", "wanted"):
        table.add_column(column, justify="left" if not column else "right")
    wanted = {"plain": "2.5", "deepctr": "2.5", "limit": "0.60"}
    labels = {"ours": "ours", "plain": "plain PyTorch", "deepctr": "DeepCTR-Torch DCN", "limit": "bf16 products alone"}
    for name, score in scores.items():
        auc = f"{score.curve[-1][1]:.4f}" if score.curve else ""
        ratio = "" if name == "ours" else f"{ours.rows_per_s / score.rows_per_s:.2f}"
        table.add_row(labels[name], f"{score.rows_per_s:,.0f}", auc, ratio, wanted.get(name, ""))
    console.print(table)
    if "deepctr" not in names:
        console.print("DeepCTR-Torch is not installed: pip install -e '.[peers]'")
    more = Table(title="ours", title_justify="left")
    for column in ("", "value", "wanted"):
        more.add_column(column, justify="right" if column else "left")
    more.add_row("waiting for data, of a step", f"{ours.waiting:.1%}", "under 5 %")
    more.add_row(
        "rows/s of 2 processes with a thread each / of one with two",
        f"{sharded.rows_per_s / ours.rows_per_s:.2f}",
        "0.85",
    )
    growth = ours.private_gib - less.private_gib
    what = f"memory after as many steps: {rows:,} rows less {rows // 5:,}"
    more.add_row(what, f"{1024 * growth:,.0f} of {1024 * ours.private_gib:,.0f} MiB", "0")
    console.print(more)


def frappe() -> None:
    """DCNv2 on Frappe with the config of this project: the time to a ROC-AUC on its validation rows."""
    settings = load_rank_config(CONFIGS / "frappe.yaml", "dcnv2", [])
    folder = find_prepared(settings.data, None).folder
    trainer = settings.trainer.model_dump()
    task = Task(str(folder), "full", settings.model.model_dump(), trainer, TARGET_AUC)
    longer = replace(task, trainer=trainer | {"epochs": 2 * trainer["epochs"]})
    scores = {"ours": run("ours", task), "plain": run("plain", longer)}
    table = Table(title=f"DCNv2 on Frappe, to a validation ROC-AUC of {TARGET_AUC:.4f}", title_justify="left")
    for column in ("", "rows/s", "epochs", "best ROC-AUC", "seconds to it"):
        table.add_column(column, justify="left" if not column else "right")
    times = {name: score.time_to(TARGET_AUC) for name, score in scores.items()}
    for name, score in scores.items():
        best = max(auc for _, auc in score.curve)
        reached = times[name]
        seconds = "never" if reached is None else f"{reached:.1f}"
        table.add_row(name, f"{score.rows_per_s:,.0f}", str(len(score.curve)), f"{best:.4f}", seconds)
    console.print(table)
    if times["ours"] is not None:
        other = times["plain"] or scores["plain"].curve[-1][0]
        what = (
            "plain PyTorch's time to it" if times["plain"] is not None else "plain PyTorch's time without reaching it"
        )
        console.print(f"{what} is {other / times['ours']:.1f} times ours")


def contest(task: Task, names: list[str]) -> dict[str, Score]:
    """Each contender's best turn of several, taken in turns."""
    best: dict[str, Score] = {}
    for number in range(ROUNDS):
        for name in names:
            score = run(name, task)
            console.print(f"round {number + 1}  {name:8}  {score.rows_per_s:,.0f} rows/s")
            if name not in best or score.rows_per_s > best[name].rows_per_s:
                best[name] = score
    return best


def run(name: str, task: Task, n_processes: int = 1, threads: int | None = None) -> Score:
    """One turn of a contender."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    launcher = [sys.executable, "-W", "ignore"]
    if n_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(asdict(task), default=_plain))
        command = [*launcher, "-m", "benchmarks.contenders", name, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return Score(**found | {"curve": [tuple(point) for point in found["curve"]]})


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is not JSON")


if __name__ == "__main__":
    run_pipeline(training)
