"""Frappe: the libfm files of the NFM repository, or the csv files of the BARS benchmark (Frappe_x1): the same rows."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.public_data.blocks import TextFormat, read_table
from pipelines.public_data.download import Download

_FIELDS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
TYPES = {"label": pa.int8()} | dict.fromkeys(_FIELDS, pa.int16())
# every feature of a row is INDEX:1, and the label is 1 or -1
_LIBFM = TextFormat(
    delimiter=" ", has_header=False, has_quotes=False, translate=lambda text: re.sub(rb":1(?=\s|$)", b"", text)
)
_LIBFM_NAMES = {"train": "frappe.train.libfm", "valid": "frappe.validation.libfm", "test": "frappe.test.libfm"}


def convert(download: Download, folder: Path) -> None:
    """Writes train.parquet, valid.parquet and test.parquet."""
    files = {part: download.require(name, f"{part}.csv") for part, name in _LIBFM_NAMES.items()}
    for part, file in files.items():
        is_libfm = ".libfm" in file
        table = read_table(download, file, TYPES, _LIBFM) if is_libfm else read_table(download, file, TYPES)
        label = pc.cast(pc.greater(table["label"], 0), pa.int8())
        pq.write_table(table.set_column(0, "label", label), folder / f"{part}.parquet")
