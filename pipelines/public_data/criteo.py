"""Criteo: the Kaggle Display Advertising Challenge's train.txt and test.txt, tab-separated and without header."""

from pathlib import Path

import pyarrow as pa

from pipelines.public_data.blocks import TextFormat, read_blocks, write_blocks
from pipelines.public_data.download import Download

FEATURES = {f"I{k}": pa.int32() for k in range(1, 14)} | {f"C{k}": pa.string() for k in range(1, 27)}
TYPES = {"label": pa.int8()} | FEATURES
_TEXT = TextFormat(delimiter="\t", has_header=False, has_quotes=False)
_N_TRAIN, _N_TEST = 45_840_617, 6_042_135


def convert(download: Download, folder: Path) -> None:
    """Writes criteo.parquet and, if the download has test.txt, criteo_test.parquet without labels."""
    train, test = download.require("train.txt", "criteo.parquet"), download.find("test.txt")
    write_blocks(read_blocks(download, train, TYPES, _TEXT), folder / "criteo.parquet", _N_TRAIN)
    if test is not None:
        write_blocks(read_blocks(download, test, FEATURES, _TEXT), folder / "criteo_test.parquet", _N_TEST)
