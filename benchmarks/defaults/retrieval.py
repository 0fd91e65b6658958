"""Compares default retrieval with the baselines on public data: recall@10 with its standard error by user.

python -m benchmarks.defaults.retrieval

Each config names columns only: settings of models and training that a config of the repository has are left out.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
import yaml
from rich.table import Table

from pipelines.common.cli import run_pipeline
from pipelines.common.config import load_data_config
from pipelines.common.data import default_folder
from recsys.config import load_yaml
from recsys.errors import InputError
from recsys.system.files import is_done
from recsys.system.progress import console
from retrieval.candidates import RANKS_FILE
from retrieval.evaluation.summary import BASELINES

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
K = 10
_SETTINGS = ("model", "models", "trainer", "features")


@dataclass(frozen=True)
class Case:
    """A data set of the table."""

    name: str
    config: str
    """Name of a file in configs/."""
    user: str
    """The column of users, over whom standard errors are."""
    chose: bool
    """Whether the defaults were chosen on it."""


CASES = (
    Case("MovieLens-100K", "movielens100k_retrieval.yaml", "user_id", chose=True),
    Case("Amazon groceries", "amazon_grocery_retrieval.yaml", "user_id", chose=True),
    Case("KuaiRand likes", "kuairand_retrieval.yaml", "user_id", chose=False),
    Case("MovieLens-1M", "movielens_retrieval.yaml", "user_id", chose=False),
)


@dataclass(frozen=True)
class Recall:
    """Recall@K of the towers and of each baseline, with standard errors by user."""

    n_requests: int
    mean: dict[str, float]
    error: dict[str, float]
    error_of_difference: float
    """Of the towers' recall minus that of the strongest baseline, paired."""

    @property
    def strongest(self) -> str:
        """The baseline with the highest recall."""
        return max((name for name in self.mean if name != "two_tower"), key=self.mean.__getitem__)


def columns_only(path: Path) -> dict[str, object]:
    """Returns the values of a config without settings of models and training."""
    values = load_yaml(path)
    section = values.get("retrieval") or {}
    kept = {key: value for key, value in values.items() if key not in (*_SETTINGS, "retrieval")}
    return kept | ({"retrieval": {"positives": section["positives"]}} if "positives" in section else {})


def cluster_error(values: np.ndarray, cluster: np.ndarray) -> float:
    """Returns the standard error of the mean of [n] values that are independent only between clusters.

    Source: Cameron and Miller, "A practitioner's guide to cluster-robust inference", Journal of Human Resources 2015.
    """
    _, index = np.unique(cluster, return_inverse=True)
    sums = np.bincount(index, weights=values - values.mean())
    n_clusters = len(sums)
    return float(np.sqrt(n_clusters / max(1, n_clusters - 1) * np.sum(sums**2)) / len(values))


def measure(ranks: dict[str, np.ndarray], user: np.ndarray) -> Recall:
    """Computes recall@K of [n] ranks by ranking, with standard errors by user."""
    hits = {name: (rank <= K).astype(np.float64) for name, rank in ranks.items()}
    mean = {name: float(values.mean()) for name, values in hits.items()}
    strongest = max((name for name in mean if name != "two_tower"), key=mean.__getitem__)
    return Recall(
        n_requests=len(user),
        mean=mean,
        error={name: cluster_error(values, user) for name, values in hits.items()},
        error_of_difference=cluster_error(hits["two_tower"] - hits[strongest], user),
    )


def run_case(case: Case, out: Path) -> Recall:
    """Trains on a data set by default, unless it is done, and reads the ranks.

    Raises:
        InputError: when the data is missing, or the run fails.
    """
    stem = Path(case.config).stem
    config, run = out / f"{stem}.yaml", out / stem
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(columns_only(CONFIGS / case.config), sort_keys=False), encoding="utf-8")
    data = load_data_config(config, [])
    if not is_done(run):
        command = [sys.executable, "-m", "pipelines.retrieval", "--config", str(config), "--out", str(run)]
        command.append("score_parts=null")  # towers for scores of rows are not part of the table
        if subprocess.run(command, check=False).returncode:
            raise InputError(f"{' '.join(command[1:])} failed: see its message above")
    table = pq.read_table(run / RANKS_FILE)
    users = pq.read_table(default_folder(data) / data.files.train[0], columns=[case.user])[case.user]
    rows = table["row_id"].cast("int64")
    names = [name for name in ("two_tower", *BASELINES) if name in table.column_names]
    return measure({name: table[name].to_numpy() for name in names}, users.take(rows).to_numpy())


def print_table(results: dict[str, Recall], chosen_on: Sequence[str]) -> None:
    """Prints recall@K of each ranking, with its standard error, one row for a data set."""
    table = Table(title=f"recall@{K} by default, ± standard error by user", title_justify="left")
    columns = [name for name in ("two_tower", *BASELINES) if any(name in r.mean for r in results.values())]
    for column in ("data", "requests", *columns, "difference to the strongest", "settings"):
        table.add_column(column, justify="left" if column in ("data", "settings") else "right")
    for name, recall in results.items():
        cells = [
            f"{recall.mean[column]:.4f} ± {recall.error[column]:.4f}" if column in recall.mean else "-"
            for column in columns
        ]
        difference = recall.mean["two_tower"] - recall.mean[recall.strongest]
        cells.append(f"{difference:+.4f} ± {recall.error_of_difference:.4f}")
        table.add_row(
            name, f"{recall.n_requests:,}", *cells, "chosen on it" if name in chosen_on else "not chosen on it"
        )
    console.print(table)


def defaults_retrieval(
    out: Annotated[Path, typer.Option(help="Folder of the configs and runs; finished runs are read again.")] = Path(
        "runs/defaults-retrieval"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a data set, such as MovieLens-100K; repeatable. Default: all.")
    ] = None,
) -> None:
    """Print recall@10 of default retrieval and of its baselines."""
    names = [case.name for case in CASES]
    if unknown := sorted(set(only or []) - set(names)):
        raise InputError(f"--data {unknown[0]}: unknown data set: choose from {', '.join(names)}")
    cases = [case for case in CASES if not only or case.name in only]
    results = {case.name: run_case(case, out) for case in cases}
    print_table(results, [case.name for case in cases if case.chose])


if __name__ == "__main__":
    run_pipeline(defaults_retrieval)
