"""Prepared data for the GPU benchmark: rows of Toss's shape, and of NVIDIA's DCN V2 benchmark."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tiling import tile
from pipelines.common.cli import CONFIGS
from pipelines.common.config import load_rank_config
from pipelines.common.data import find_prepared
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

_BASE_ROWS = 100_000
_N_TABLES, _N_NUMBERS = 26, 13


def toss_rows(n_rows: int, folder: Path) -> PreparedDataset:
    """Repeats generated rows with the columns of the Toss data up to `n_rows`."""
    settings = load_rank_config(CONFIGS / "toss.yaml", "dcnv2", [f"generator.n_rows={min(n_rows, _BASE_ROWS)}"])
    base = find_prepared(settings.data, None)
    tile(base, n_rows, folder / "toss")
    return PreparedDataset.open(folder / "toss")


def nvidia_rows(n_rows: int, largest_table: int, folder: Path) -> PreparedDataset:
    """Random rows with 26 categorical and 13 numeric columns, as in Criteo's logs, repeated up to `n_rows`.

    Args:
        n_rows: number of rows.
        largest_table: values of the largest column; the sizes of the others fall geometrically.
        folder: folder for the files.
    """
    rng, n_base = np.random.default_rng(0), min(n_rows, 4 * _BASE_ROWS)
    columns: dict[str, np.ndarray] = {"label": (rng.random(n_base) < 0.25).astype(np.int32)}
    for number in range(_N_NUMBERS):
        columns[f"I{number + 1}"] = rng.exponential(50, n_base).astype(np.float32)
    for number, size in enumerate(np.geomspace(20, largest_table, _N_TABLES).astype(int)):
        columns[f"C{number + 1}"] = (rng.random(n_base) ** 1.5 * size).astype(np.int32)
    raw = folder / "nvidia_raw"
    raw.mkdir(parents=True)
    pq.write_table(pa.table(columns), raw / "train.parquet", row_group_size=_BASE_ROWS)
    schema = SchemaConfig.model_validate({"label": "label", "categorical": ["C*"], "numeric": ["I*"]})
    files, config = RawFiles(train=("train.parquet",)), PrepareConfig(min_count=1)
    base = PreparedDataset.open(prepare(schema, files, config, raw, folder / "nvidia_base", "nvidia"))
    tile(base, n_rows, folder / "nvidia")
    return PreparedDataset.open(folder / "nvidia")
