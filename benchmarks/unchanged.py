"""Shows that a refactoring changed no result: small runs of two checkouts, compared file by file.

git worktree add ../before HEAD~1
python -m benchmarks.unchanged --before ../before
"""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
import yaml
from rich.table import Table

from recsys.errors import InputError

ROOT = Path(__file__).parent.parent
DONE = "recorded.txt"
"""Lists the finished steps of a record."""
BYTES = {".arrow", ".npy", ".csv", ".faiss", "vocab.json", "stats.json", "folds.json"}
"""Suffixes and names of files whose bytes must be equal; parquet files are compared as tables, other JSON by values."""
VOLATILE = {
    *("seconds", "rows_per_s", "waited_s", "peak_rss_gib", "peak_gpu_gib", "queries_per_s", "folder", "run"),
    *("member_folders", "fingerprint", "test_files", "truth_file", "command", "versions", "sha256", "model"),
}
"""Keys of JSON files that differ between two runs of the same code."""
SENTENCES = {"reason", "threshold"}
"""Keys of JSON files whose values are sentences: only the numbers in them are compared."""
RENAMED = {
    **{"score": "toss_score", "last_day": "holdout", "ad": "item", "n_ads": "n_items"},
    "row_id": "row_in_split",
}
"""Keys and names of earlier versions, and their names now."""
_RELATIVE_TOLERANCE = 1e-12
"""For numbers in JSON files: a sum in another order differs in its last digits."""
PLAN = """
name: unchanged
config: config.yaml
set: [trainer.epochs=2, trainer.batch_size=128]
reference: gbdt
bootstrap: {replicates: 100}
steps:
  - {step: 1, do: prepare}
  - {step: 2, do: rank, name: dcnv2, model: dcnv2}
  - {step: 3, do: rank, name: gbdt, model: gbdt, set: [model.n_trees=60, trainer.trees_per_epoch=10]}
  - {step: 3, do: sweep, name: ablation, model: dcnv2, over: ["model.cross_depth=1,2"]}
  - {step: 3, do: rank, name: dcnv2-best, model: dcnv2, best_of: ablation, judged: [folds]}
  - {step: 3, do: gate, gate: A}
  - {step: 6, do: gate, gate: D}
  - {step: 8, do: ensemble, name: ensemble, members: [gbdt, dcnv2]}
  - {step: 8, do: gate, gate: calibration}
  - {step: 8, do: gate, gate: distribution}
  - {step: 9, do: final, name: final, best_of: [gbdt, dcnv2, ensemble]}
gates:
  A: {kind: comparison, candidate: dcnv2, baselines: [gbdt], any_of: [{metric: ap, gain: 0.5}]}
  D: {kind: segments, candidate: dcnv2, baselines: [gbdt], segmentation: user, any_of: [{metric: ap, gain: 0}]}
  calibration: {kind: calibration, run: ensemble}
  distribution: {kind: distribution, run: ensemble, mean: 0.02, mean_tolerance: 0.1, min_std: 0.001}
"""


@dataclass(frozen=True)
class Step:
    """A pipeline and its arguments, run in the folder of a record."""

    pipeline: str
    arguments: tuple[str, ...]


def steps_of(tree: Path) -> list[Step]:
    """The small runs: each model, retrieval, reranking, an ensemble, a plan and submissions."""
    score_feature = "--features"
    if "--score-feature" in (tree / "pipelines/rank.py").read_text(encoding="utf-8"):
        score_feature = "--score-feature"
    toss = ("--config", "config.yaml", "--data", "prepared")
    quick = ("trainer.epochs=2", "trainer.batch_size=128")
    rank = ("--config", "config.yaml", "--data", "prepared", *quick)
    tiny = ("model.d_model=16", "model.n_layers=2", "model.n_heads=2", "model.numeric_tokens=fourier")
    trees = ("--config", "config.yaml", "--data", "prepared", "model.n_trees=100", "model.min_data_in_leaf=20")
    steps = [
        Step("generate", ("--rows", "4000", "--out", "raw")),
        Step(
            "prepare",
            (
                *("--config", "config.yaml", "--train", "raw/train.parquet", "--test", "raw/test.parquet"),
                *("--out", "prepared"),
            ),
        ),
        Step("rank", ("--model", "dcnv2", *rank, "--folds", "0,1", "--out", "dcnv2", "features.leave_out=[]")),
        Step("rank", ("--model", "xdeepfm", *rank, "--folds", "0", "--out", "xdeepfm", "trainer.loss.name=focal")),
        Step("rank", ("--model", "ft_transformer", *rank, "--folds", "0", "--out", "ft_transformer", *tiny)),
        Step("rank", ("--model", "din", *rank, "--folds", "0", "--out", "din", "trainer.mixout=0.1")),
        Step("rank", ("--model", "gbdt", *trees, "--folds", "0,1", "--out", "gbdt")),
        Step("rank", ("--model", "dcnv2", *rank, "--folds", "holdout", "--out", "dcnv2-holdout")),
        Step(
            "retrieval",
            (
                *("--config", "retrieval.yaml", "--data", "prepared-retrieval", "--out", "retrieval"),
                *(*quick, "trainer.loss.uniform_negatives=16"),
            ),
        ),
        Step("retrieval", (*toss, "--out", "reranked", *quick, "--reranker", "dcnv2-holdout", "score_parts=2")),
        Step(
            "rank",
            (
                *("--model", "dcnv2", *rank, "--folds", "holdout", "--out", "with-score"),
                *(score_feature, "reranked"),
            ),
        ),
        Step(
            "rank",
            (
                *("--model", "din", *rank, "--folds", "0", "--out", "din-matching", "model.attention_softmax=true"),
                *("model.match_scores=true", "model.matching.dim=8", "model.target_with=[l_feat_11]"),
                *("trainer.weight_average=0", "model.cross_depth=1"),
            ),
        ),
        Step(
            "retrieval",
            (
                *(*toss, "--out", "attention", *quick, "score_parts=null", "model.pooling=attention"),
                *("trainer.loss.all_ads=true", "trainer.loss.shown=negative"),
            ),
        ),
        Step("ensemble", ("--runs", "dcnv2", "gbdt", "--out", "ensemble", "--replicates", "100")),
        Step("compare", ("dcnv2", "gbdt", "--replicates", "100", "--out", "differences.json")),
        Step("submit", ("--run", "ensemble", "--test", "raw/test.parquet", "--out", "submission.csv")),
        Step("submit", ("--run", "din", "--out", "prepared-rows.csv", "--labels", "raw/truth.parquet")),
        Step("plan", ("--config", "plan.yaml", "--data", "prepared", "--out", "plan")),
    ]
    prepare = steps[1].arguments[2:-1]
    steps.insert(2, Step("prepare", ("--config", "retrieval.yaml", *prepare, "prepared-retrieval")))
    if "GATECTR_DATA" in os.environ:
        causal = str(tree / "configs/movielens100k_retrieval.yaml")
        steps.append(
            Step("retrieval", ("--config", causal, "--out", "causal", "trainer.epochs=1", "trainer.batch_size=64"))
        )
    return steps


def record(tree: Path, folder: Path, core: int) -> None:
    """Runs the steps of a checkout in one thread each; skips those that are already recorded.

    Raises:
        InputError: when a step fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"base": str(tree / "configs/toss.yaml"), "name": "toss"}))
    base = {"base": str(tree / "configs/toss_retrieval.yaml"), "name": "toss"}
    (folder / "retrieval.yaml").write_text(yaml.safe_dump(base))
    (folder / "plan.yaml").write_text(PLAN)
    environment = os.environ | {
        **{"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        **{"NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "COLUMNS": "160"},
    }
    pin = ["taskset", "-c", str(core)] if hasattr(os, "sched_getaffinity") else []
    record_file = folder / DONE
    done_before = record_file.read_text().splitlines() if record_file.exists() else []
    for step in steps_of(tree):
        line = " ".join([step.pipeline, *step.arguments]).replace(str(tree), "")
        if line in done_before:
            continue
        command = [*pin, sys.executable, "-m", f"pipelines.{step.pipeline}", *step.arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InputError(f"{' '.join(command)} failed in {folder}: {done.stderr.strip()[-2000:]}")
        print(f"{folder.name}: {line[:110]}", flush=True)
        with record_file.open("a") as file:
            file.write(f"{line}\n")


def contents(folder: Path) -> dict[str, str]:
    """Returns the results of a record by name: digests of files and tables, and the values of JSON files by key."""
    results: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = "/".join(RENAMED.get(part, part) for part in path.relative_to(folder).parts)
        name = name.replace("-last-day", "-holdout")
        if not path.is_file() or "ckpt" in path.parts or "study.log" in path.name:
            continue
        if BYTES & {path.suffix, path.name}:
            results[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        elif path.suffix == ".parquet":
            columns = {RENAMED.get(key, key): value for key, value in pq.read_table(path).to_pydict().items()}
            results[name] = hashlib.sha256(str(columns).encode()).hexdigest()[:16]
        elif path.suffix == ".json" and path.name != "schema.json":
            results |= {f"{name}: {key}": value for key, value in _leaves(json.loads(path.read_text()))}
    return results


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted keys and the values of nested JSON, except volatile ones; of sentences, their numbers."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key in SENTENCES:
                yield f"{prefix}{key}.", " ".join(re.findall(r"\d[\d.]*", str(child)))
            elif key not in VOLATILE:
                yield from _leaves(child, f"{prefix}{RENAMED.get(key, key)}.")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{prefix}{index}.")
    elif isinstance(value, str):
        yield prefix, repr(RENAMED.get(value, value).replace("-last-day", "-holdout"))
    else:
        yield prefix, repr(value)


def _are_equal(first: str | None, second: str | None) -> bool:
    """Whether two values are equal; numbers within the tolerance."""
    if first == second or first is None or second is None:
        return first == second
    try:
        return math.isclose(float(first), float(second), rel_tol=_RELATIVE_TOLERANCE, abs_tol=_RELATIVE_TOLERANCE)
    except ValueError:
        return False


def unchanged(
    before: Annotated[Path, typer.Option(help="Another checkout of this project.")],
    work: Annotated[
        Path | None, typer.Option(help="Folder for both records; steps that are already recorded there are skipped.")
    ] = None,
) -> None:
    """Compare the results of another checkout with those of this one; exit code 1 if any differ."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (work or Path(temporary)).resolve()
        folders = {"before": before.resolve(), "after": ROOT}
        with ThreadPoolExecutor(2) as pool:  # a core for each
            jobs = [pool.submit(record, tree, folder / name, core) for core, (name, tree) in enumerate(folders.items())]
            for job in jobs:
                job.result()
        first, second = (contents(folder / name) for name in folders)
    report(first, second)


def report(first: dict[str, str], second: dict[str, str]) -> None:
    """Prints the differing results; exits with code 1 if there are any."""
    from recsys.system.progress import console

    table = Table(title="differences", title_justify="left")
    for column in ("result", "before", "after"):
        table.add_column(column, overflow="fold")
    differing = [name for name in first if not _are_equal(first[name], second.get(name))]
    for name in differing[:100]:
        table.add_row(name, first.get(name, "-"), second.get(name, "-"))
    if differing:
        console.print(table)
    files = {name.split(": ")[0] for name in first}
    n_new = len(second.keys() - first.keys())
    console.print(f"{len(files)} files, {len(first)} values: {len(differing)} differ; {n_new} values are new")
    if differing:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(unchanged)
