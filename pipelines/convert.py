"""Turns a public data set as downloaded into the parquet files that its config reads (docs/public_data.md).

python -m pipelines.convert criteo --source dac.tar.gz --out data/criteo
"""

import shutil
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from pipelines.public_data.download import open_download
from pipelines.public_data.registry import DATA_SETS
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.system.files import begin_folder, check_free, finish_folder
from recsys.system.lock import release
from recsys.system.progress import console


def convert(
    name: Annotated[str, typer.Argument(help=f"The data set: {', '.join(DATA_SETS)}.", show_default=False)],
    source: Annotated[Path, typer.Option(help="The download: a folder, a zip or tar archive, or its one file.")],
    out: Annotated[Path, typer.Option(help="Folder to write the parquet files to.")],
) -> None:
    """Convert a public data set to the files that its config reads.

    The folder is complete or does not exist.
    """
    if name not in DATA_SETS:
        raise InputError(f"unknown data set {name!r}{nearest(name, DATA_SETS)}: choose one of {', '.join(DATA_SETS)}")
    data_set = DATA_SETS[name]
    with open_download(source) as download:
        check_free(out, "converted data set")
        partial = begin_folder(out)
        try:
            data_set.convert(download, partial)
        except BaseException:
            release(partial)
            shutil.rmtree(partial)
            raise
    finish_folder(out)
    table = Table(title=f"{name} in {out}", title_justify="left")
    for column in ("file", "rows", "columns"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for path in sorted(out.glob("*.parquet")):
        footer = pq.read_metadata(path)
        table.add_row(path.name, f"{footer.num_rows:,}", str(len(footer.schema.to_arrow_schema().names)))
    console.print(table)
    console.print(f"next: python -m {data_set.command} --data {out}")


if __name__ == "__main__":
    run_pipeline(convert)
