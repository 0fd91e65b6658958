"""Turns raw files into a prepared data set: vocabularies, statistics, folds and memory-mapped rows.

python -m pipelines.prepare --config configs/toss.yaml --train data/toss/train.parquet --test data/toss/test.parquet \\
    --out prepared/toss
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import TOSS_CONFIG, Overrides, find_config, run_pipeline
from pipelines.common.config import (
    DataConfig,
    data_section,
    load_rank_config,
    load_retrieval_config,
)
from pipelines.common.data import PREPARED_ROOT, prepare_config_files, prepare_raw, print_dataset
from pipelines.common.layers import read_layers
from pipelines.common.model_choice import section_mapping
from ranking.models import model_names
from recsys.config import Values
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import Engine
from recsys.system.progress import console


def prepare_command(
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="Training rows: a file, a folder or a glob; repeatable. Default: the files that the config names."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the prepared data set to. Default: prepared/NAME.")
    ] = None,
    valid: Annotated[list[str] | None, typer.Option(help="Validation rows, if the data has its own.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Test rows, with or without labels.")] = None,
    engine: Annotated[
        Engine, typer.Option(help="local: the CPU cores of this machine; ray: a Ray cluster (RAY_ADDRESS).")
    ] = "local",
    config: Annotated[
        Path, typer.Option(help="YAML file with the data schema and the settings.", show_default="configs/toss.yaml")
    ] = TOSS_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Prepare raw files for training.

    Reads the raw files once, fits vocabularies and column statistics, and
    encodes the rows. Writes vocab.json, stats.json, the fold indices and
    memory-mapped Arrow files, and the config, which later commands on this data
    set use without --config.
    """
    data, sections = load_prepare_config(find_config(config), overrides or [])
    folder = prepare_files(data, sections, out, train or [], valid or [], test or [], engine)
    dataset = PreparedDataset.open(folder)
    print_dataset(dataset)
    console.print(f"next: {next_command(dataset)}")


def next_command(dataset: PreparedDataset) -> str:
    """The command that trains on a data set: what its label and its splits allow."""
    if dataset.manifest.schema_config.label is None:
        return f"gatectr retrieval --data {dataset.folder}"
    has_parts = dataset.predefined_splits or len(dataset.split_names) > 1
    return f"gatectr rank --data {dataset.folder} --model gbdt{'' if has_parts else ' --folds full'}, or another model"


def prepare_files(
    data: DataConfig,
    sections: Values,
    out: Path | None,
    train: Sequence[str],
    valid: Sequence[str] = (),
    test: Sequence[str] = (),
    engine: Engine = "local",
    side_folder: Path | None = None,
) -> Path:
    """Prepares files, or those that the config names, and returns the folder of the data set.

    Args:
        data: the data part of the config.
        sections: all its sections, to store with the data.
        out: the folder to write; None takes prepared/NAME.
        train: training files; none takes those of the config.
        valid: validation files.
        test: test files.
        engine: as in `recsys.prepare.run.prepare`.
        side_folder: the folder of side tables; None takes that of the first training file.

    Raises:
        InputError: for files that cannot be read as the config says.
    """
    folder = out or PREPARED_ROOT / data.name
    if train:
        prepare_raw(data, train, valid, test, folder, engine, sections, side_folder)
    elif valid or test:
        raise InputError(
            "--valid and --test are given without --train: pass --train FILE, or name all files in the config"
        )
    else:
        prepare_config_files(data, folder, engine, sections)
    return folder


def load_prepare_config(path: Path, overrides: Sequence[str]) -> tuple[DataConfig, Values]:
    """Reads a config file for preparation: the data config, and all sections, with overrides.

    Validates the sections of training too: they are stored with the data, for later runs.

    Raises:
        InputError: for an unknown key or a wrong value in any section.
    """
    sections = read_layers(path, overrides)
    data, model = data_section(sections, str(path)), section_mapping(sections.get("model"), path, "model")
    if "name" in model:
        load_rank_config(path, None, overrides)
    elif not model:  # else it is unknown which model the section is for
        models = section_mapping(sections.get("models"), path, "models")
        for name in [name for name in model_names() if name in models] or model_names()[:1]:  # either checks all names
            load_rank_config(path, name, overrides)
    load_retrieval_config(path, [])
    return data, sections


if __name__ == "__main__":
    run_pipeline(prepare_command)
