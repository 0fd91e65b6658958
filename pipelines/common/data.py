"""Finds, generates or prepares the data set that a pipeline runs on."""

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from omegaconf import OmegaConf
from rich.table import Table

from pipelines.common.cli import find_config
from pipelines.common.config import DataConfig
from recsys.config import Values
from recsys.data.config import RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.data.groups import FULL, PARTITIONS, Group, evaluation_groups_of, fit_groups_of
from recsys.data.layout import CONFIG_FILE, FORMAT_VERSION, SCHEMA_FILE
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.prepare.run import Engine, fingerprint, prepare
from recsys.runs.config import RUN_SECTION, RunSection
from recsys.schema.config import LogSequence, SchemaConfig
from recsys.schema.encodings import TOKEN_POOLS
from recsys.synthetic import generate
from recsys.system.files import is_done, partial_folder, removed_if_refused
from recsys.system.progress import console

DATA_VARIABLE = "GATECTR_DATA"
DATA_ROOTS = (Path("data"), Path("..", "shared", "data"))
PREPARED_ROOT = Path("prepared")


def choose_config(config: Path | None, data: Path | None, default: Path) -> Path:
    """The config file of a pipeline.

    Args:
        config: the value of `--config`.
        data: the value of `--data`; without `--config`, the config stored in a prepared data set is used.
        default: the config if neither names one.
    """
    if config is not None:
        return find_config(config)
    stored = None if data is None else stored_config(data)
    return default if stored is None else stored


def stored_config(data: Path) -> Path | None:
    """The config stored in a prepared data set; None for other folders, and for data of versions that stored none."""
    return data / CONFIG_FILE if (data / SCHEMA_FILE).is_file() and (data / CONFIG_FILE).is_file() else None


def prepare_raw(
    config: DataConfig,
    train: Sequence[str],
    valid: Sequence[str],
    test: Sequence[str],
    out: Path,
    engine: Engine = "local",
    sections: Values | None = None,
    folder: Path | None = None,
) -> Path:
    """Prepares the files given on the command line, with paths relative to the working folder.

    Args:
        config: the data config.
        train: training files.
        valid: validation files.
        test: test files.
        out: the folder to write.
        engine: as in `recsys.prepare.run.prepare`.
        sections: all sections of the config, to store with the data; None stores those of `config`.
        folder: the folder of side tables and the truth; None takes that of the first training file.
    """
    first = Path(train[0]).absolute()
    folder = folder or next(path for path in (first, *first.parents) if path.is_dir())
    files = RawFiles(
        train=tuple(str(Path(path).absolute()) for path in train),
        valid=tuple(str(Path(path).absolute()) for path in valid),
        test=tuple(str(Path(path).absolute()) for path in test),
        truth=config.files.truth,
    )
    return _prepare(config, files, folder, out, engine, sections)


def prepare_config_files(config: DataConfig, out: Path, engine: Engine, sections: Values) -> Path:
    """Prepares the files that a config names, in its folder or as its generator writes them.

    Raises:
        InputError: when the config names no files, or they do not exist.
    """
    return _prepare(config, config.files, default_folder(config), out, engine, sections)


def _prepare(
    config: DataConfig, files: RawFiles, folder: Path, out: Path, engine: Engine, sections: Values | None
) -> Path:
    """Prepares files and stores the config; a refused data set leaves no files."""
    if not files.train:
        raise InputError(
            f"config {config.name!r} names no training files: set files.train, or prepare them with "
            "gatectr prepare --train FILE"
        )
    with removed_if_refused(partial_folder(out)):
        prepare(config.schema_, files, config.prepare, folder, out, config.name, engine)
    stored = {key: value for key, value in (sections or config.dump()).items() if key != RUN_SECTION}
    named_files = files.model_copy(update={"folder": str(folder.resolve())})
    stored["files"] = named_files.model_dump(mode="json", exclude_defaults=True)
    text = OmegaConf.to_yaml(OmegaConf.create(stored))  # quotes text that looks like a number
    path = out / CONFIG_FILE
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        temporary = path.with_name(f"{CONFIG_FILE}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return out


def find_prepared(config: DataConfig, data: Path | None, sections: Values | None = None) -> PreparedDataset:
    """The prepared data set of a pipeline's `--data`.

    Args:
        config: the data config, which a prepared data set has to match.
        data: a prepared folder, or a folder of raw files (prepared once); None takes generated data if the config
            has a generator, else the config's `files.folder`.
        sections: all sections of the config, to store with data that is prepared now; None stores those of `config`.

    Raises:
        InputError: when the data does not exist or was prepared with another schema.
    """
    if data is not None and not data.is_dir():
        beside = [path.name for path in data.parent.iterdir() if path.is_dir()] if data.parent.is_dir() else []
        raise InputError(
            f"--data {data} is not a folder{nearest(data.name, beside)}: pass a prepared data set or a folder of raw "
            "files"
        )
    if data is not None and (data / SCHEMA_FILE).is_file():
        dataset = PreparedDataset.open(data)
        _check_config(config, dataset)
        return dataset
    folder = data or default_folder(config)
    digest = fingerprint(config.schema_, config.files, config.prepare, folder)
    out = PREPARED_ROOT / f"{config.name}-{digest[:8]}"
    if not is_done(out):
        console.print(f"preparing {folder} once, into {out}")
        _prepare(config, config.files, folder, out, "local", sections)
    return PreparedDataset.open(out)


def open_data(recorded: Path, data: Path | None, owner: str) -> PreparedDataset:
    """Opens the prepared data set of a run.

    Args:
        recorded: the folder that the run recorded.
        data: the value of `--data`; None opens the recorded folder.
        owner: whose data it is, for error messages.

    Raises:
        InputError: when the folder is missing, or not a prepared data set.
    """
    if data is None and not (recorded / SCHEMA_FILE).is_file():
        raise InputError(f"{recorded}, the prepared data {owner}, is missing: pass its new place with --data")
    if data is not None and not (data / SCHEMA_FILE).is_file():
        raise InputError(f"--data {data} is not a prepared data set: pass the folder that pipelines.prepare wrote")
    return PreparedDataset.open(data or recorded)


def recorded_data(run: RunSection) -> Path | None:
    """The prepared data set recorded in the config of a finished run; None for other configs.

    Raises:
        InputError: when the folder is missing, or now holds other data.
    """
    if run.data is None:
        return None
    folder = Path(run.data.folder)
    if not (folder / SCHEMA_FILE).is_file():
        raise InputError(f"{folder}, the prepared data of the run, is missing: pass its new place with --data")
    if PreparedDataset.open(folder).manifest.fingerprint != run.data.fingerprint:
        raise InputError(f"{folder} no longer holds the data that the run was trained on: pass that data with --data")
    return folder


def default_folder(config: DataConfig) -> Path:
    """The folder of a config's raw files; data that can be generated is generated once.

    It is the working folder if `files` names training files and no folder. A named folder is looked for in the folder
    of `GATECTR_DATA`, or in `DATA_ROOTS`, and then in the working folder.

    Raises:
        InputError: when it does not exist, or the config names no files.
    """
    if config.generator is not None:
        folder = DATA_ROOTS[0] / f"{config.name}-generated-{config.generator.fingerprint[:8]}"
        if not is_done(folder):
            others = sorted(str(path.parent) for path in PREPARED_ROOT.glob(f"*/{SCHEMA_FILE}"))
            hint = f"; {', '.join(others[:3])} would be used with --data {others[0]}" if others else ""
            console.print(f"no --data: generating {config.generator.n_rows:,} rows once, into {folder}{hint}")
            generate(config.generator, folder)
        return folder
    name = config.files.folder
    if name is None:
        if missing := [file for file in config.files.train if not glob(file)]:
            raise InputError(
                f"config {config.name!r}: the working folder has no {missing[0]}: set files.folder, or pass --data "
                "FOLDER (of gatectr prepare: --train FILE)"
            )
        if config.files.train:
            return Path()
        raise InputError(
            f"config {config.name!r} names no files: set files.train, prepare them with gatectr prepare --train FILE, "
            "or pass a prepared data set with --data"
        )
    roots = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else list(DATA_ROOTS)
    for root in (*roots, Path()):
        if (root / name).is_dir():
            return root / name
    paths = ", ".join(str(root / name) for root in (*roots, Path()))
    raise InputError(f"config {config.name!r}: no data at {paths}: correct files.folder, or set {DATA_VARIABLE}")


def _check_config(config: DataConfig, dataset: PreparedDataset) -> None:
    manifest, schema = dataset.manifest, config.schema_
    if manifest.format_version < FORMAT_VERSION and (online := _with_online_histories(schema)) != schema:
        schema = online
        console.print(
            f"{dataset.folder} was prepared by an earlier version: histories of evaluated rows hold steps of their own "
            "part, as with history_until=row; prepare the data again to leave them out",
            style="yellow",
        )
    for section, expected, prepared in (
        ("schema", schema, manifest.schema_config),
        ("prepare", config.prepare, manifest.prepare),
    ):
        if expected != prepared:
            fields = type(expected).model_fields
            key = next(key for key in fields if getattr(expected, key) != getattr(prepared, key))
            raise InputError(
                f"{dataset.folder} was prepared from config {dataset.name!r} with another {section}.{key} than "
                f"config {config.name!r} has: pass the --config it was prepared with, or prepare it again"
            )


def _with_online_histories(schema: SchemaConfig) -> SchemaConfig:
    """The schema whose histories are those of earlier versions where it does not say where they end."""
    sequences = {
        name: sequence.model_copy(update={"history_until": "row"})
        if isinstance(sequence, LogSequence) and "history_until" not in sequence.model_fields_set
        else sequence
        for name, sequence in schema.sequences.items()
    }
    return schema.model_copy(update={"sequences": sequences})


def print_dataset(dataset: PreparedDataset) -> None:
    """Prints the rows of the splits and the embedding tables of a prepared data set."""
    table = Table(title=f"{dataset.name}: {dataset.n_rows:,} rows in {dataset.folder}", title_justify="left")
    for column in ("split", "fitted rows", "positive", "evaluated on", "rows", "positive", "positive %"):
        table.add_column(column, justify="right")
    for name in dataset.split_names:
        fitted = [dataset.groups[index] for index in fit_groups_of(dataset.groups, name)]
        first = (name, *_counts(fitted))
        evaluated = {name: [dataset.groups[index] for index in evaluation_groups_of(dataset.groups, name)]}
        if name == FULL:
            evaluated = {p: [g for g in dataset.groups if g.partition == p] for p in dataset.predefined_splits}
        for part, groups in evaluated.items():
            n_positive, n_rows = sum(g.n_positive for g in groups), sum(g.n_rows for g in groups)
            table.add_row(*first, part, *_counts(groups), f"{100 * n_positive / n_rows:.3f}")
            first = ("", "", "")
        if not evaluated:
            table.add_row(*first)
    for partition in PARTITIONS[1:]:
        groups = [group for group in dataset.groups if group.partition == partition]
        if groups and partition not in dataset.predefined_splits:
            table.add_row("", "", "", f"{partition}, no label", _counts(groups)[0])
    console.print(table)
    schema = dataset.split("full").schema
    rows = ", ".join(f"{name} {n:,}" for name, n in schema.num_embeddings.items())
    n_measured, n_inputs = len(schema.measured), len(schema.dense)
    tokens = {sequence.name for sequence in schema.token_sequences}
    n_encoded = sum(len(of) * (len(TOKEN_POOLS) if name in tokens else 1) for name, of in schema.encodings.items())
    more = [f"{n_encoded} from counts"] if n_encoded else []
    if (n_indicators := n_inputs - n_measured - n_encoded) > 0:
        more.insert(0, f"{n_indicators} for missing values")
    among = f", of them {' and '.join(more)}" if more else ""
    console.print(f"{n_inputs} numeric inputs{among}; embedding rows: {rows}")


def _counts(groups: Sequence[Group]) -> tuple[str, str]:
    return f"{sum(group.n_rows for group in groups):,}", f"{sum(group.n_positive for group in groups):,}"
