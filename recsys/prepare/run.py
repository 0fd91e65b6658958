"""Runs preparation: scan, fit, encode. The output folder is complete or does not exist."""

import hashlib
import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.groups import FOLD, PARTITIONS, fit_groups_of, split_names
from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError
from recsys.patterns import is_pattern, nearest
from recsys.prepare import on_ray
from recsys.prepare import passes as local
from recsys.prepare.encodings.auto import choose_encodings
from recsys.prepare.encodings.counts import read_time_ranks, write_past_counts, write_value_counts
from recsys.prepare.offsets import with_offsets
from recsys.prepare.partition.groups import order_by_group
from recsys.prepare.scan import Scan, judged_parts, scan_source, with_copies_together
from recsys.prepare.truth import copy_generator_config, read_truth
from recsys.raw.files.find import display_name, find_beside, find_files
from recsys.raw.ids_and_labels import read_ids
from recsys.raw.logs import with_histories
from recsys.raw.opening import open_source
from recsys.raw.source import Source
from recsys.schema.config import SchemaConfig, TimeSplit
from recsys.schema.encodings import kinds_of_folds
from recsys.schema.leaks import warning_of_label_histories
from recsys.schema.resolved import Schema
from recsys.system.files import begin_folder, check_free, finish_folder, is_done, read_json, write_json
from recsys.system.progress import console

Engine = Literal["local", "ray"]


def fingerprint(schema: SchemaConfig, files: RawFiles, config: PrepareConfig, folder: Path) -> str:
    """Hashes the input of a prepared data set: the settings, and the names, sizes and times of the raw files."""
    side = [path for table in schema.side_tables.values() for path in find_beside(table.files, folder)]
    truth = [folder / files.truth] if files.truth and (folder / files.truth).is_file() else []
    rows = [find_files(file_names, folder) for file_names in (files.train, files.valid, files.test)]
    raw = []
    for paths in (*rows, side, truth):
        stats = [(display_name(path), path.stat()) for path in paths]
        raw.append([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    schema_settings = schema.model_dump(mode="json")
    if schema_settings["towers"]:  # hashed under its earlier name, so that data prepared before the renaming is found
        schema_settings["towers"] = {{"item": "ad"}.get(k, k): v for k, v in schema_settings["towers"].items()}
    if not schema_settings["numbers_as_text"]:
        del schema_settings["numbers_as_text"]  # data prepared before it existed is found
    if isinstance(schema.split, TimeSplit):
        schema_settings["split"]["is_time_stored"] = True  # data prepared before it was is prepared again
    settings = [layout.FORMAT_VERSION, schema_settings, config.model_dump(mode="json"), raw]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def check_keys_by_column(config: PrepareConfig, schema: Schema) -> None:
    """Checks that the names in `*_by_column` exist; a pattern may match nothing.

    Raises:
        InputError: for the first unknown name.
    """
    by_key: dict[str, tuple[Collection[str], Collection[str]]] = {
        "min_count_by_column": (config.min_count_by_column, schema.vocabularies),
        "numeric_transform_by_column": (config.numeric_transform_by_column, schema.measured),
    }
    components = {column for vector in schema.vectors for column in vector.columns}
    if changed := sorted(components & config.numeric_transform_by_column.keys()):
        raise InputError(
            f"prepare.numeric_transform_by_column: {changed[0]!r} is a component of a vector, and those are only "
            "standardized: remove it"
        )
    for key, (settings, known) in by_key.items():
        for name in settings:
            if name not in known and not is_pattern(name):
                raise InputError(
                    f"prepare.{key}: {name!r} is not a column of that kind{nearest(name, known)}: correct the name"
                )


def standardized_vectors(config: PrepareConfig, schema: Schema) -> PrepareConfig:
    """Returns the settings under which the components of vectors are standardized, whatever that of other numbers."""
    if not schema.vectors:
        return config
    of_vectors = {column: "standardize" for vector in schema.vectors for column in vector.columns}
    return config.model_copy(update={"numeric_transform_by_column": config.numeric_transform_by_column | of_vectors})


def check_one_weight(schema: SchemaConfig, config: PrepareConfig) -> None:
    """Checks that rows are not weighted twice.

    Raises:
        InputError: if both the schema and `prepare.true_base_rate` do.
    """
    for key in ("weight", "sampling_rate"):
        if config.true_base_rate is not None and getattr(schema, key) is not None:
            raise InputError(
                f"prepare.true_base_rate and schema.{key} are both set, and each changes the click rate: remove one"
            )


def check_folds(schema: SchemaConfig, config: PrepareConfig) -> None:
    """Checks that folds by user have users, and that encodings have a fold to be counted from.

    Raises:
        InputError: if the schema names no user, or has encodings with fewer than three folds.
    """
    if config.folds.by == "user" and schema.user is None:
        raise InputError("prepare.folds.by is user, but schema.user names no column: name the column of the user")
    has_rates = schema.encodings == "auto" or any(kinds_of_folds(kinds) for kinds in schema.encodings.values())
    if has_rates and config.n_folds < 3:
        raise InputError(
            f"schema.encodings: with prepare.n_folds={config.n_folds} the fitting rows of a fold have no rows of "
            "another fold to be counted from: set prepare.n_folds to 3 or more"
        )


def prepare(
    schema_config: SchemaConfig,
    files: RawFiles,
    config: PrepareConfig,
    folder: Path,
    out: Path,
    name: str,
    engine: Engine = "local",
) -> Path:
    """Prepares raw parquet files; a finished folder of the same input is left unchanged.

    Args:
        schema_config: the roles of the columns.
        files: the raw files.
        config: settings of vocabularies, statistics and folds.
        folder: the folder of relative paths.
        out: the folder to write.
        name: the name of the data set in run folders and tables.
        engine: local: the threads of this process; ray: a Ray cluster. The result is the same.

    Raises:
        InputError: for invalid input; the output folder then has no DONE file.
    """
    check_one_weight(schema_config, config)
    check_folds(schema_config, config)
    input_hash = fingerprint(schema_config, files, config, folder)
    if is_done(out) and read_json(out / layout.SCHEMA_FILE).get("fingerprint") == input_hash:
        console.print(f"{out} is already prepared from these files with these settings")
        return out
    check_free(out, "prepared data set")
    source = open_source(schema_config, files, folder)
    check_keys_by_column(config, source.schema)
    scan = scan_source(source, config)
    if schema_config.encodings == "auto":
        chosen = choose_encodings(source, scan, config)
        source = open_source(schema_config.model_copy(update={"encodings": chosen}), files, folder)
    truth = read_truth(files, folder, scan)
    source = with_offsets(source, scan, config)
    time_ranks = read_time_ranks(source, scan)
    if source.schema.logs:
        source = with_histories(source, judged_parts(scan))

    partial = begin_folder(out)
    passes = on_ray if engine == "ray" else local
    fitted = passes.digest_all(source, scan, config, partial)
    scan_of_digests, scan = scan, with_copies_together(scan, fitted.content, config)
    if scan.n_copies:
        console.print(f"{scan.n_copies:,} training rows are exact copies of an earlier row: copies share a fold")
    if not np.array_equal(scan.group, scan_of_digests.group):  # values were counted by the folds of before
        fitted = passes.digest_all(source, scan, config, partial)
    names = split_names(scan.groups, config.n_folds)
    splits = {split: fit_groups_of(scan.groups, split) for split in names}
    if any(name.startswith(FOLD) for name in names):
        warning = warning_of_label_histories(source.schema, config.folds.is_by_user(schema_config.user))
        if warning is not None:
            console.print(f"warning: {warning}", style="bold yellow")
    with ThreadPoolExecutor(1) as executor:  # measuring is CPU-bound, encoding is mostly I/O
        future_stats = executor.submit(fitted.sample.measure, standardized_vectors(config, source.schema), splits)
        passes.encode_all(source, scan, fitted, partial)
    stats = future_stats.result()
    write_value_counts(partial, source.schema, scan, fitted.vocabularies)
    if time_ranks is not None:
        write_past_counts(partial, source.schema, scan, fitted.vocabularies, time_ranks)
    if any(scan.has_id.values()):
        _write_ids(source, scan, partial)

    np.save(partial / layout.FOLD_INDICES_FILE, order_by_group(scan.group, len(scan.groups)))
    write_json(partial / layout.GROUPS_FILE, layout.Groups(groups=tuple(scan.groups)).model_dump())
    if truth is not None:
        np.save(partial / layout.TRUTH_FILE, truth)
        copy_generator_config(files, folder, partial)
    _write_vocabularies(partial, source.schema, fitted.vocabularies)
    write_json(
        partial / layout.STATS_FILE,
        layout.Stats(
            n_rows={name: sum(g.n_rows for g in scan.groups if g.partition == name) for name in PARTITIONS},
            n_sampled_rows=len(fitted.sample.values),
            n_copies=scan.n_copies,
            weights=_weight_stats(scan, source.schema),
            sampling_rate=_sampling_rate(scan, schema_config, config),
            sequences=fitted.lengths,
            numeric=stats,
            missing_indicators={
                split: tuple(fitted.sample.missing_indicators(fit_groups, source.schema.numeric))
                for split, fit_groups in splits.items()
            },
        ).model_dump(mode="json"),
    )
    manifest = layout.Manifest(
        format_version=layout.FORMAT_VERSION,
        fingerprint=input_hash,
        name=name,
        schema_=source.schema,
        schema_config=schema_config,
        prepare=config,
        holdout_day=scan.holdout_day,
        kinds=source.kinds,
        n_rows=len(scan.label),
        test_files=tuple(str(path.resolve()) for path in find_files(files.test, folder)),
        truth_file=str((folder / files.truth).resolve()) if files.truth and truth is not None else None,
    )
    write_json(partial / layout.SCHEMA_FILE, manifest.model_dump(mode="json"))
    finish_folder(out)
    return out


def _weight_stats(scan: Scan, schema: Schema) -> layout.WeightStats | None:
    """Computes and prints the statistics of the training rows' weights."""
    if scan.weight is None or schema.weight is None:
        return None
    weight = scan.weight[scan.split == PARTITIONS.index("train")].astype(np.float64)
    stats = layout.WeightStats(n_effective=weight.sum() ** 2 / np.sum(weight**2), n_clipped=scan.n_clipped)
    clipped = "" if schema.weight.max is None else f", {stats.n_clipped:,} weights clipped to {schema.weight.max:g}"
    console.print(
        f"weights from column {schema.weight.column!r}: {len(weight):,} training rows count as "
        f"{stats.n_effective:,.0f} of equal weight (effective sample size){clipped}"
    )
    return stats


def _sampling_rate(scan: Scan, schema: SchemaConfig, config: PrepareConfig) -> float | None:
    """The single rate at which negatives were kept: as given, or that which turns the true base rate into the log's."""
    if config.true_base_rate is None:
        return schema.sampling_rate if isinstance(schema.sampling_rate, float) else None
    label = scan.label[scan.split == PARTITIONS.index("train")]
    n_positive = int(np.sum(label == 1))
    true_odds = config.true_base_rate / (1 - config.true_base_rate)
    return (len(label) - n_positive) / n_positive * true_odds


def _write_ids(source: Source, scan: Scan, folder: Path) -> None:
    """Writes the ids of all rows as text; a split without ids gets row numbers."""
    with pa.ipc.new_file(folder / layout.IDS_FILE, pa.schema([pa.field(layout.ROW_ID, pa.string())])) as writer:
        for split, has_id in scan.has_id.items():
            if has_id:
                name = str(source.schema.id)
                arrays: Iterator[pa.Array] = (read_ids(block, name) for block in source.blocks(split, [name]))
            else:
                arrays = iter([pa.array(np.arange(source.n_rows(split)))])
            for ids in arrays:
                writer.write_batch(pa.RecordBatch.from_arrays([pc.cast(ids, pa.string())], [layout.ROW_ID]))


def _write_vocabularies(folder: Path, schema: Schema, vocabularies: dict[str, Vocabulary]) -> None:
    described = {
        name: {
            "features": schema.vocabularies[name],
            "min_count": vocabulary.min_count,
            "n_rare": vocabulary.n_rare,
            "values": vocabulary.values.to_pylist(),
            "counts": vocabulary.counts.sum(axis=1).tolist(),
        }
        for name, vocabulary in vocabularies.items()
    }
    write_json(folder / layout.VOCAB_FILE, described)
    counts = [vocabulary.counts for vocabulary in vocabularies.values()]
    np.save(folder / layout.COUNTS_FILE, np.concatenate(counts) if counts else np.zeros((0, 0), np.int64))
