"""Speed and memory of training at 1 and 10.7 million rows, speed of scoring, and latency of a request.

python -m benchmarks.scale training
python -m benchmarks.scale scoring
python -m benchmarks.scale latency
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from rich.table import Table

from benchmarks.speed.contest import private_gib
from benchmarks.tiling import tile
from pipelines.common.cli import TOSS_CONFIG, run_pipeline
from pipelines.common.config import load_rank_config
from pipelines.common.data import find_prepared
from pipelines.submit import submit
from ranking.dcnv2 import DCNv2Config
from ranking.models import build_model, model_names
from ranking.scoring import find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import AllRows, Permutation
from recsys.data.store import RowStore
from recsys.distributed.sharding import shard
from recsys.errors import InputError
from recsys.nn.traits import sequences_of
from recsys.prepare.digest import columns_to_read
from recsys.prepare.encode import encode_rows
from recsys.raw.opening import open_rows_to_score
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import join_world
from recsys.training.config import TrainerConfig
from recsys.training.early_stopping import EPOCH_STREAM
from recsys.training.log import Log
from recsys.training.trainer import Trainer

BASE_ROWS = 100_000
BATCH_SIZE = 16_384
CANDIDATES = (1, 32, 512)


class Measurement(StrEnum):
    """The measurement to run."""

    TRAINING = "training"
    SCORING = "scoring"
    LATENCY = "latency"


def scale(
    measurement: Annotated[Measurement, typer.Argument(help="The measurement to run.")],
    rows: Annotated[list[int] | None, typer.Option(help="Training rows; repeat the option for more sizes.")] = None,
    test_rows: Annotated[int, typer.Option(min=1000, help="Rows to score.")] = 100_000,
    requests: Annotated[int, typer.Option(min=10, help="Requests per number of candidates.")] = 200,
    data: Annotated[Path, typer.Option(help="Folder for large data sets; they are deleted at the end.")] = Path(
        "data/benchmark-scale"
    ),
) -> None:
    """Measure training, scoring or latency.

    Training reads 100,000 generated and prepared rows, repeated up to the
    requested size. The time to read a row depends on its position in the file,
    not on its values.
    """
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    match measurement:
        case Measurement.TRAINING:
            training(sorted(rows or [1_000_000, 10_700_000]), data)
        case Measurement.SCORING:
            scoring(test_rows, data)
        case Measurement.LATENCY:
            latency(requests, data)


def base_dataset(n_rows: int = BASE_ROWS) -> PreparedDataset:
    """Generated rows, prepared once with the Toss config."""
    settings = load_rank_config(TOSS_CONFIG, "dcnv2", [f"generator.n_rows={n_rows}"])
    return find_prepared(settings.data, None)


def training(sizes: list[int], data: Path) -> None:
    """Measures one epoch of DCNv2 at each size, each in a new process."""
    source, results = base_dataset(), []
    for size in sizes:
        folder = data / f"prepared-{size}"
        tile(source, round(size * source.n_rows / len(source.split("full").fit_rows)), folder)
        gib = sum(path.stat().st_size for path in folder.iterdir()) / 2**30
        result = in_process("train_epoch", str(folder))
        results.append({"gib": gib} | result)
        console.print(f"{size:,} rows: {result['rows_per_s']:,.0f} rows/s")
        shutil.rmtree(folder)
    table = Table(title=f"one epoch of DCNv2, batch {BATCH_SIZE:,}", title_justify="left")
    names = ("rows", "on disk, GiB", "rows/s", "relative to first", "target", "private memory, GiB", "every row read")
    for column in names:
        table.add_column(column, justify="right")
    for result in results:
        ratio = f"{result['rows_per_s'] / results[0]['rows_per_s']:.2f}"
        figures = (
            f"{result['rows_per_s']:,.0f}",
            ratio,
            "0.90",
            f"{result['private_gib']:.2f}",
            "yes" if result["is_whole"] else "no",
        )
        table.add_row(f"{result['n_rows']:,}", f"{result['gib']:.1f}", *figures)
    console.print(table)


def train_epoch(folder: str) -> dict[str, Any]:
    """Trains one epoch; also returns whether the epoch's order contains every row."""
    keep_freed_memory()
    split = PreparedDataset.open(Path(folder)).split("full")
    config = TrainerConfig(epochs=1, batch_size=BATCH_SIZE, early_stopping=None)
    torch.manual_seed(config.seed)
    model = build_model(DCNv2Config().resolved(split.size("cpu")), split.schema)
    with tempfile.TemporaryDirectory() as weights_folder:
        report = Trainer(model, split, None, config, Path(weights_folder) / "w", Log(), join_world(), "dcnv2").fit()
    (epoch,) = report.progress.epochs
    order, seen = Permutation(report.n_rows, config.seed, EPOCH_STREAM, 0), np.zeros(report.n_rows, bool)
    for positions in AllRows(report.n_rows).blocks(1 << 20):
        seen[order(positions)] = True
    speed = report.n_rows / epoch.seconds
    return {"n_rows": report.n_rows, "rows_per_s": speed, "private_gib": private_gib(), "is_whole": bool(seen.all())}


def scoring(n_rows: int, data: Path) -> None:
    """Compares `submit` with the forward pass alone."""
    run = train_run("dcnv2", data)
    dataset = base_dataset()
    (raw,), test = dataset.manifest.test_files, dataset.partition_rows("test")
    raw_table = pq.read_table(raw)
    sizes = {"few": 2000, "half": n_rows // 2, "all": n_rows}
    for name, size in sizes.items():
        copies = pa.concat_tables([raw_table] * -(-size // raw_table.num_rows)).slice(0, size)
        ids = pa.array([f"T{i}" for i in range(size)])
        copies = copies.set_column(copies.column_names.index("ID"), "ID", ids)
        pq.write_table(copies, data / f"{name}.parquet", row_group_size=20_000)
        tile(dataset, dataset.n_rows - len(test) + size, data / f"prepared-{name}", test.numbers())
    forward = in_process("forward_alone", str(dataset.folder))
    table = Table(title=f"scoring {n_rows:,} rows with DCNv2", title_justify="left")
    columns = ("rows/s", "relative to forward, training", "target", "private memory, GiB", "with half the rows, GiB")
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("forward, training", f"{forward['training']:,.0f}")
    table.add_row("forward, no gradients", f"{forward['scoring']:,.0f}")
    for source in ("prepared rows", "raw file"):
        results = {}
        for name in sizes:
            raw_path = "" if source == "prepared rows" else str(data / f"{name}.parquet")
            prepared = str(data / f"prepared-{name}") if not raw_path else str(dataset.folder)
            results[name] = in_process("submit_rows", str(run), raw_path, prepared, str(data / "out.csv"))
        # The difference removes the start-up time, which does not depend on the number of rows.
        seconds = results["all"]["seconds"] - results["few"]["seconds"]
        speed = (results["all"]["n_rows"] - results["few"]["n_rows"]) / seconds
        memory = [f"{results[name]['private_gib']:.2f}" for name in ("all", "half")]
        table.add_row(f"submit, {source}", f"{speed:,.0f}", f"{speed / forward['training']:.2f}", "0.70", *memory)
    console.print(table)
    shutil.rmtree(data)


def train_run(model: str, data: Path) -> Path:
    """Trains a model briefly, as a benchmark needs only its speed; returns the run folder."""
    dataset = base_dataset()
    out = data / f"run-{model}"
    if not (out / "DONE").is_file():
        overrides = ["model.n_trees=300"] if model == "gbdt" else ["trainer.epochs=1", "trainer.early_stopping=null"]
        overrides += [f"generator.n_rows={BASE_ROWS}"]
        command = [sys.executable, "-m", "pipelines.rank", "--model", model, "--folds", "0", "--out", str(out)]
        command += ["--data", str(dataset.folder), *overrides]
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode != 0:
            raise RuntimeError(completed.stderr[-2000:])
    return out


def forward_alone(folder: str) -> dict[str, Any]:
    """Rows/s of the model's forward pass over batches in memory, in training mode and in scoring mode."""
    keep_freed_memory()
    split = PreparedDataset.open(Path(folder)).split("fold_0")
    config = TrainerConfig()
    model = build_model(DCNv2Config().resolved(split.size("cpu")), split.schema)
    shard(model, config.embeddings, 0, config.eval_batch_size, join_world())
    rows = AllRows(50_000)
    in_memory = replace(split, store=RowStore.from_encoded(split.store.encoded(rows.numbers()), split.store.schema))
    rows_per_s = {}
    for mode, size in (("training", config.batch_size), ("scoring", config.eval_batch_size)):
        model.train(mode == "training")
        batches = [in_memory.batch(block, sequences_of(model)) for block in rows.blocks(size)]
        best = np.inf
        with torch.set_grad_enabled(model.training), torch.autocast("cpu", torch.bfloat16):
            for _ in range(4):
                start = time.perf_counter()
                for batch in batches:
                    model(batch)
                best = min(best, time.perf_counter() - start)
        rows_per_s[mode] = len(rows) / best
    return rows_per_s


def submit_rows(run: str, test: str, prepared: str, out: str) -> dict[str, Any]:
    """Scores rows with pipelines.submit; returns seconds and memory."""
    path = Path(out)
    path.unlink(missing_ok=True)
    dataset = PreparedDataset.open(Path(prepared))
    n_rows = pq.ParquetFile(test).metadata.num_rows if test else len(dataset.partition_rows("test"))
    start = time.perf_counter()
    submit(run=Path(run), out=path, test=[Path(test)] if test else None, data=dataset.folder)
    return {"n_rows": n_rows, "seconds": time.perf_counter() - start, "private_gib": private_gib()}


def latency(requests: int, data: Path) -> None:
    """Measures requests of raw rows, from Arrow table to logits, for each model."""
    table = Table(title="one request, milliseconds", title_justify="left")
    for column in ("model", "candidates", "p50", "p99", "encoding, p50"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in model_names():
        run = train_run(model, data)
        for result in in_process("time_requests", str(run), str(requests))["requests"]:
            times = (f"{result[key]:.1f}" for key in ("p50", "p99", "encoding"))
            table.add_row(model, str(result["n"]), *times)
    console.print(table)


def time_requests(run: str, requests: str) -> dict[str, Any]:
    """Latency quantiles of single requests, in milliseconds, per number of candidates."""
    keep_freed_memory()
    folder = Path(run)
    run_data = find_run_data(folder)
    dataset = PreparedDataset.open(run_data.folder)
    manifest = dataset.manifest
    paths = list(manifest.test_files)
    source = open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, paths, Path())
    scorer = load_scorer(folder, run_data, dataset, join_world())
    table = next(source.blocks("test", columns_to_read(manifest.schema_))).table
    results = []
    for n in CANDIDATES:
        times, encoding = [], []
        for number in range(int(requests) + 5):
            request = table.slice(number * 7 % max(1, table.num_rows - n), n)
            start = time.perf_counter()
            rows = encode_rows(request, manifest.schema_, dataset.vocabularies)
            encoded = time.perf_counter()
            scorer.natural_logit(rows)
            times.append(1000 * (time.perf_counter() - start))
            encoding.append(1000 * (encoded - start))
        times, encoding = times[5:], encoding[5:]
        p50, p99 = np.quantile(times, [0.5, 0.99])
        results.append({"n": n, "p50": p50, "p99": p99, "encoding": float(np.median(encoding))})
    return {"requests": results}


def in_process(function: str, *arguments: str) -> dict[str, Any]:
    """Runs one of the functions above in a new process; returns its result."""
    code = f"from benchmarks import scale; scale.print_result({function!r}, {list(arguments)!r})"
    command = [sys.executable, "-W", "ignore", "-c", code]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise InputError(f"{function} failed: {completed.stderr.strip()[-3000:]}")
    result: dict[str, Any] = json.loads(completed.stdout.strip().splitlines()[-1])
    return result


def print_result(function: str, arguments: list[str]) -> None:
    """Runs one of the functions above; prints its result as JSON."""
    work = {f.__name__: f for f in (train_epoch, forward_alone, submit_rows, time_requests)}[function]
    print(json.dumps(work(*arguments)))


if __name__ == "__main__":
    run_pipeline(scale)
