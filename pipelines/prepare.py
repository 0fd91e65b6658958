"""Turns raw parquet files into a prepared data set: vocabularies, statistics, folds and memory-mapped rows.

python -m pipelines.prepare --config configs/toss.yaml --train data/toss/train.parquet --test data/toss/test.parquet \\
    --out prepared/toss
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, Overrides, run_pipeline
from pipelines.common.config import load_data_config
from pipelines.common.data import prepare_raw, print_dataset
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import Engine


def prepare_command(
    train: Annotated[list[str], typer.Option(help="Training rows: a parquet file, a folder or a glob; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder to write the prepared data set to.")],
    valid: Annotated[list[str] | None, typer.Option(help="Validation rows, if the data has its own.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Test rows, with or without labels.")] = None,
    engine: Annotated[
        Engine, typer.Option(help="local: the CPU cores of this machine; ray: a Ray cluster (RAY_ADDRESS).")
    ] = "local",
    config: ConfigOption = TOSS_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Prepare raw parquet files for training.

    Reads the raw files once, fits vocabularies and column statistics, and
    encodes the rows. Writes vocab.json, stats.json, the fold indices and
    memory-mapped Arrow files.
    """
    data = load_data_config(config, overrides or [])
    folder = prepare_raw(data, train=train, valid=valid or [], test=test or [], out=out, engine=engine)
    print_dataset(PreparedDataset.open(folder))


if __name__ == "__main__":
    run_pipeline(prepare_command)
