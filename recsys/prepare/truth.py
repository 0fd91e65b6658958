"""The truth file of generated data: the click probability of each row, and the config of the generator."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.config import RawFiles
from recsys.data.groups import PARTITIONS, Partition
from recsys.errors import InputError
from recsys.prepare.scan import Scan
from recsys.raw.files.find import find_file
from recsys.raw.files.parquet import open_parquet
from recsys.system.files import write_json


def read_truth(files: RawFiles, folder: Path, scan: Scan) -> np.ndarray | None:
    """Reads [n] float64 true probabilities in row order, joined by split and row number."""
    if files.truth is None or not (folder / files.truth).is_file():
        return None
    path = find_file(files.truth, folder, "files.truth")
    file = open_parquet(path)
    # earlier versions of the generator wrote row_id
    row_column = "row_in_split" if "row_in_split" in file.schema_arrow.names else "row_id"
    table = file.read(columns=["split", row_column, "p"])
    truth: list[np.ndarray] = []
    names: tuple[Partition, ...] = tuple(split for split in PARTITIONS if split in scan.has_id)
    for split in names:
        split_rows = table.filter(pc.equal(pc.cast(table["split"], pa.string()), split))
        n = sum(group.n_rows for group in scan.groups if group.partition == split)
        p = np.full(n, np.nan)
        row = split_rows[row_column].to_numpy()
        if len(row) != n or len(np.unique(row)) != n or row.min() != 0 or row.max() != n - 1:
            raise InputError(f"{path} does not hold one row for each of the {n} {split} rows: it belongs to other data")
        p[row] = split_rows["p"].to_numpy()
        truth.append(p)
    return np.concatenate(truth)


def copy_generator_config(files: RawFiles, folder: Path, out: Path) -> None:
    """Copies the generator's config from the truth file; the true preferences can be computed from it."""
    assert files.truth is not None
    generator_config = (open_parquet(folder / files.truth).schema_arrow.metadata or {}).get(b"config")
    if generator_config is not None:
        write_json(out / layout.GENERATOR_FILE, json.loads(generator_config))
