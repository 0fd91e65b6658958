"""Requests of one user and many candidates, from the generated test rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.scale import train_run
from pipelines.export import export
from recsys.data.dataset import PreparedDataset
from recsys.prepare.digest import columns_to_read
from recsys.raw.derive import derive
from recsys.raw.opening import open_rows_to_score
from serving.runtime.layout import NumberType

_SEED = 0


@dataclass(frozen=True)
class Case:
    """A request in the two forms that the two paths read."""

    user: dict[str, Any]
    candidates: dict[str, list[Any]]
    joined: pa.Table
    """One row for each candidate, with the columns of the user and the derived ones."""


def bundle_of(model: str, data: Path, weights: NumberType = "fp32") -> tuple[Path, Path]:
    """Trains a model briefly and exports it; returns the run and the bundle."""
    run, bundle = train_run(model, data), data / "bundles" / f"{model}-{weights}"
    if not bundle.is_dir():
        export(run=run, out=bundle, weights=weights)
    return run, bundle


def make_requests(dataset: PreparedDataset, columns: tuple[str, ...], n: int, n_requests: int) -> list[Case]:
    """Makes requests: a user of a random test row, and candidates of n others with their context and item columns.

    Args:
        dataset: the generated data set.
        columns: the columns that the bundle reads.
        n: candidates of a request.
        n_requests: requests.
    """
    manifest = dataset.manifest
    paths = list(manifest.test_files)
    source = open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, paths, Path())
    table = next(source.blocks("test", columns_to_read(manifest.schema_))).table
    schema, rng = manifest.schema_, np.random.default_rng(_SEED)
    own = [name for name in columns if name in schema.towers["item"]]
    shared = [name for name in columns if name not in own]
    cases = []
    for _ in range(n_requests):
        user_row = table.take(pa.array([int(rng.integers(table.num_rows))]))
        items = table.take(pa.array(rng.integers(0, table.num_rows, n)))
        user = {name: user_row[name][0].as_py() for name in shared}
        candidates = {name: items[name].to_pylist() for name in own}
        repeated = user_row.take(pa.array(np.zeros(n, np.int64)))
        of_columns = {name: items[name] if name in own else repeated[name] for name in columns}
        joined = pa.table(of_columns)
        for name in schema.crosses:  # before the clock starts
            joined = joined.append_column(name, derive(name, joined, schema))
        cases.append(Case(user, candidates, joined))
    return cases
