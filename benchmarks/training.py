"""Compares training speed in one run: ours, plain PyTorch, DeepCTR-Torch, and the bfloat16 matrix products alone.

python -m benchmarks.training
python -m benchmarks.training --model din
python -m benchmarks.training --model two_tower
python -m benchmarks.training --data frappe
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.speed.contenders import PREDICTIONS_FILE
from benchmarks.speed.contest import Rounds, Score, Task
from pipelines.common.cli import CONFIGS, TOSS_RETRIEVAL_CONFIG, run_pipeline
from pipelines.common.config import load_rank_config, load_retrieval_config
from pipelines.common.data import find_prepared
from pipelines.parts.ranking_defaults import resolve_settings
from recsys.evaluation.shown import format_interval
from recsys.system.progress import console
from recsys.system.world import join_world
from retrieval.config import RetrievalLoss

ROUNDS = 3
TARGET_AUC = 0.9840


class Data(StrEnum):
    """The data set to train on."""

    TOSS = "toss"
    FRAPPE = "frappe"


class DeepModel(StrEnum):
    """The model to train."""

    DCNV2 = "dcnv2"
    XDEEPFM = "xdeepfm"
    DIN = "din"
    FT_TRANSFORMER = "ft_transformer"
    TWO_TOWER = "two_tower"


@dataclass(frozen=True)
class Size:
    """Rows, batch size and config overrides for minutes of training on a small machine."""

    rows: int
    batch_size: int
    overrides: tuple[str, ...] = ()


SIZES = {
    DeepModel.DCNV2: Size(500_000, 16_384),
    DeepModel.XDEEPFM: Size(50_000, 4096),
    DeepModel.DIN: Size(100_000, 4096),
    DeepModel.TWO_TOWER: Size(100_000, 4096),
    DeepModel.FT_TRANSFORMER: Size(20_000, 2048, ("model.d_model=64", "model.n_layers=2", "model.n_heads=4")),
}
LABELS = {"ours": "ours", "plain": "plain PyTorch", "deepctr": "DeepCTR-Torch", "limit": "bf16 matrix products only"}
TARGETS = {"plain": "2.0", "deepctr": "2.0"}
DCNV2_TARGETS = {"plain": "2.5", "deepctr": "2.5", "limit": "0.60"}
# Evaluates each epoch; the patience is too long to stop training.
EVALUATE_EACH_EPOCH = "trainer.early_stopping={weights: {roc_auc: 1}, patience: 99}"


def training(
    data: Annotated[Data, typer.Option(help="toss: generated rows; frappe: the public data set.")] = Data.TOSS,
    model: Annotated[DeepModel, typer.Option(help="Model for toss; frappe trains dcnv2.")] = DeepModel.DCNV2,
    rows: Annotated[int | None, typer.Option(min=1000, help="Rows to generate; 4/5 of them are training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Batch size for toss.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of toss; the ROC-AUC is that after each of them.")] = 3,
) -> None:
    """Measure training speed as ratios of the contenders in this run.

    Each contender runs in its own process with all cores. The contenders
    alternate, each round with another seed; the fastest round of each counts.
    """
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    if data == Data.FRAPPE:
        frappe()
        return
    size = SIZES[model]
    n_rows, n_batch = rows or size.rows, batch_size or size.batch_size
    if model == DeepModel.TWO_TOWER:
        print_towers(n_rows, n_batch)
        return
    overrides = [*size.overrides, f"trainer.batch_size={n_batch}", EVALUATE_EACH_EPOCH]
    of_size = [*overrides, f"generator.n_rows={n_rows}"]
    epoch_overrides = [*of_size, f"trainer.epochs={epochs}"]
    task, title = toss_task(model, epoch_overrides), f"{model.value}, {n_rows * 4 // 5:,} rows, batch {n_batch:,}"
    names = ["ours", "plain"] + (["limit"] if model == DeepModel.DCNV2 else [])
    has_peer = model != DeepModel.FT_TRANSFORMER and importlib.util.find_spec("deepctr_torch") is not None
    if has_peer and model != DeepModel.DIN:
        names.append("deepctr")
    rounds = contest(task, names)
    console.print(comparison(title, model, rounds), gains(rounds, task.label()))
    if has_peer and model == DeepModel.DIN:  # DeepCTR-Torch's DIN reads only token sequences
        task = toss_task(model, [*epoch_overrides, "model.behaviours=[seq]"])
        rounds = contest(task, ["ours", "deepctr"])
        console.print(comparison(f"{title}, only seq", model, rounds), gains(rounds, task.label()))
    if not has_peer and model != DeepModel.FT_TRANSFORMER:  # DeepCTR-Torch has no FT-Transformer
        console.print("DeepCTR-Torch is not installed: pip install -e '.[peers]'", markup=False)
    if model == DeepModel.DCNV2:
        one_epoch = toss_task(model, [*of_size, "trainer.epochs=1"])
        # a fifth of the rows for five epochs: the same number of steps
        fewer_rows = run("ours", toss_task(model, [*overrides, f"generator.n_rows={n_rows // 5}", "trainer.epochs=5"]))
        sharded = run("ours", one_epoch, n_processes=2, threads=1)
        console.print(measurements_of_ours(run("ours", one_epoch), fewer_rows, sharded, n_rows))


def print_towers(n_rows: int, n_batch: int) -> None:
    """Compares our two towers with plain PyTorch's, with retrieval's config."""
    overrides = [f"trainer.batch_size={n_batch}", f"generator.n_rows={n_rows}", "trainer.epochs=1"]
    settings = load_retrieval_config(TOSS_RETRIEVAL_CONFIG, overrides)
    config, folder = settings.retrieval, find_prepared(settings.data, None).folder
    # All rows are positives: this loss has no term for impressions without a click.
    trainer = config.trainer.model_copy(update={"loss": RetrievalLoss()})
    task = Task(str(folder), "fold_0", config.model.model_dump(), trainer.model_dump())
    by_contender = contest(task, ["two_tower", "two_tower_plain"])
    rounds = {"ours": by_contender["two_tower"], "plain": by_contender["two_tower_plain"]}
    title = f"two towers, {n_rows * 4 // 5:,} rows, batch {n_batch:,}"
    console.print(comparison(title, DeepModel.TWO_TOWER, rounds))


def toss_task(model: DeepModel, overrides: list[str]) -> Task:
    """The task of a model on generated rows, with the Toss config and the overrides."""
    settings = load_rank_config(CONFIGS / "toss.yaml", model.value, overrides)
    dataset = find_prepared(settings.data, None)
    settings = resolve_settings(settings, dataset, ["fold_0"], join_world())
    return Task(str(dataset.folder), "fold_0", settings.model.model_dump(), settings.trainer.model_dump())


def comparison(title: str, model: DeepModel, rounds: dict[str, Rounds]) -> Table:
    """Tabulates the contenders' speed, and their ROC-AUC as the mean over rounds."""
    targets = DCNV2_TARGETS if model in (DeepModel.DCNV2, DeepModel.TWO_TOWER) else TARGETS
    table = Table(title=title, title_justify="left")
    n_epochs, ours = max(len(of_one.curve) for of_one in rounds.values()), rounds["ours"]
    after = [f"ROC-AUC after {n}" for n in range(1, n_epochs + 1)]
    for column in ("", "rows/s", "speedup of ours", "target", *after, "ours to its best ROC-AUC"):
        table.add_column(column, justify="left" if not column else "right")
    for name, of_one in rounds.items():
        rows_per_s = of_one.best.rows_per_s
        ratio = "" if of_one is ours else f"{ours.best.rows_per_s / rows_per_s:.2f}"
        curve = [f"{auc:.4f}" for _, auc in of_one.curve] or [""] * n_epochs
        cells = (f"{rows_per_s:,.0f}", ratio, targets.get(name, ""), *curve, time_to_equal(ours, of_one))
        table.add_row(LABELS[name], *cells)
    return table


def gains(rounds: dict[str, Rounds], label: np.ndarray) -> Table:
    """Tabulates our gain in ROC-AUC over the others after each epoch, with intervals."""
    ours = rounds["ours"]
    table = Table(title=f"our gain in ROC-AUC, 95 % interval by row and seed ({ROUNDS} each)", title_justify="left")
    for column in ("over", *(f"after {number}" for number in range(1, len(ours.curve) + 1))):
        table.add_column(column, justify="left" if column == "over" else "right")
    for name, other in rounds.items():
        if other is not ours and other.curve:
            found = [ours.gain_over(other, label, epoch) for epoch in range(len(ours.curve))]
            cells = [f"{d.difference:+.4f} ({format_interval(d.low, d.high)})" for d in found]
            table.add_row(LABELS[name], *cells)
    return table


def time_to_equal(ours: Rounds, other: Rounds) -> str:
    """Our time to another contender's best ROC-AUC, as a share of the time that the contender takes."""
    if not other.curve or other is ours:
        return ""
    best = max(auc for _, auc in other.curve)
    own_s, other_s = ours.time_to(best), other.time_to(best)
    return "never" if own_s is None or other_s is None else f"in {own_s / other_s:.0%} of its time"


def measurements_of_ours(ours: Score, fewer_rows: Score, sharded: Score, n_rows: int) -> Table:
    """Tabulates the measurements of ours alone: waiting for data, two processes, memory growth."""
    assert ours.waiting is not None
    table = Table(title="ours", title_justify="left")
    for column in ("", "value", "target"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("share of training time spent waiting for data", f"{ours.waiting:.1%}", "under 5 %")
    ratio = sharded.rows_per_s / ours.rows_per_s
    table.add_row("rows/s: 2 processes of 1 thread / 1 process of 2 threads", f"{ratio:.2f}", "0.85")
    growth = ours.private_gib - fewer_rows.private_gib
    label = f"memory growth from {n_rows // 5:,} to {n_rows:,} rows, same number of steps"
    table.add_row(label, f"{1024 * growth:,.0f} of {1024 * ours.private_gib:,.0f} MiB", "0")
    return table


def frappe() -> None:
    """Compares the time to a validation ROC-AUC of DCNv2 on Frappe, with this project's config."""
    one_pass = ["trainer.epochs=14", "trainer.loss.self_ensemble=0"]  # as the plain model is trained
    settings = load_rank_config(CONFIGS / "frappe.yaml", "dcnv2", one_pass)
    dataset = find_prepared(settings.data, None)
    settings = resolve_settings(settings, dataset, ["full"], join_world())
    trainer = settings.trainer.model_dump()
    task = Task(str(dataset.folder), "full", settings.model.model_dump(), trainer, TARGET_AUC)
    longer = replace(task, trainer=trainer | {"epochs": 2 * trainer["epochs"]})
    scores = {"ours": run("ours", task), "plain": run("plain", longer)}
    table = Table(title=f"DCNv2 on Frappe, to a validation ROC-AUC of {TARGET_AUC:.4f}", title_justify="left")
    for column in ("", "rows/s", "epochs", "best ROC-AUC", "seconds to target"):
        table.add_column(column, justify="left" if not column else "right")
    times = {name: score.time_to(TARGET_AUC) for name, score in scores.items()}
    for name, score in scores.items():
        best = max(auc for _, auc in score.curve)
        time_to_target = times[name]
        seconds = "never" if time_to_target is None else f"{time_to_target:.1f}"
        table.add_row(name, f"{score.rows_per_s:,.0f}", str(len(score.curve)), f"{best:.4f}", seconds)
    console.print(table)
    if times["ours"] is not None:
        plain_s = times["plain"] or scores["plain"].curve[-1][0]
        reached = "reached" if times["plain"] is not None else "did not reach"
        console.print(f"plain PyTorch {reached} the target in {plain_s / times['ours']:.1f} times the time of ours")


def contest(task: Task, names: list[str]) -> dict[str, Rounds]:
    """Runs the contenders in alternating rounds, each with another seed; returns the scores of each."""
    scores: dict[str, list[Score]] = {name: [] for name in names}
    for number in range(ROUNDS):
        of_round = replace(task, trainer=task.trainer | {"seed": number})
        for name in names:
            scores[name].append(run(name, of_round))
            console.print(f"round {number + 1}  {name:8}  {scores[name][-1].rows_per_s:,.0f} rows/s")
    return {name: Rounds(of_one) for name, of_one in scores.items()}


def run(name: str, task: Task, n_processes: int = 1, threads: int | None = None) -> Score:
    """Runs one round of a contender."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    launcher = [sys.executable, "-W", "ignore"]
    if n_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(asdict(task), default=_plain))
        command = [*launcher, "-m", "benchmarks.speed.contenders", name, str(path)]
        completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if completed.returncode != 0:
            raise RuntimeError(f"{name} failed:\n{completed.stderr[-4000:]}")
        predictions = list(np.load(path.with_name(PREDICTIONS_FILE), allow_pickle=False))
    result: dict[str, Any] = json.loads(completed.stdout.strip().splitlines()[-1])
    return Score(**result | {"curve": [tuple(point) for point in result["curve"]], "predictions": predictions})


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a value that JSON can hold, got {value!r}")


if __name__ == "__main__":
    run_pipeline(training)
