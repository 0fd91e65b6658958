"""Preparation from end to end: scan, fit, encode, and a folder that is whole or not there."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.files import begin_folder, check_free, finish_folder, is_done, read_json, write_json
from recsys.prepare import layout
from recsys.prepare.config import PrepareConfig, RawFiles, by_column
from recsys.prepare.encode import columns_to_read, encode_source, parse_sequence, read_measured
from recsys.prepare.hashing import mix
from recsys.prepare.numeric import NumericCounter, NumericSample
from recsys.prepare.scan import Group, Scan, order_by_group, sample_hashes, scan_source
from recsys.prepare.source import SPLITS, Source, SplitName, find_files, open_parquet, open_source, with_histories
from recsys.prepare.tokens import encode_values
from recsys.prepare.vocabulary import Vocabulary, VocabularyCounter
from recsys.progress import console, progress_line
from recsys.schema import Schema
from recsys.schema_config import SchemaConfig

_INDICATOR_SEED = 2


def fingerprint(schema: SchemaConfig, files: RawFiles, config: PrepareConfig, folder: Path) -> str:
    """Names a prepared data set by what it is made from: settings, and the raw files' names, sizes and times."""
    side = [table.file for table in schema.side_tables.values()]
    truth = [files.truth] if files.truth and (folder / files.truth).is_file() else []
    raw = []
    for part in (files.train, files.valid, files.test, side, truth):
        stats = [(path.name, path.stat()) for path in find_files(part, folder)]
        raw.append([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    settings = [layout.FORMAT_VERSION, schema.model_dump(mode="json"), config.model_dump(mode="json"), raw]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def fit_groups_of(groups: tuple[Group, ...] | list[Group], split: str) -> list[int]:
    """The groups whose rows a split's model may see.

    Args:
        groups: all groups of the data set.
        split: `full`, `holdout` or `fold_K`.
    """
    train = [(index, group) for index, group in enumerate(groups) if group.split == "train"]
    if split == "holdout":
        return [index for index, group in train if not group.last_day]
    if split.startswith("fold_"):
        return [index for index, group in train if f"fold_{group.fold}" != split]
    return [index for index, _ in train]


def split_names(scan: Scan, config: PrepareConfig) -> list[str]:
    """The splits a data set can be fitted on: all training rows, each fold's others, all days but the last."""
    folds = sorted({group.fold for group in scan.groups if group.fold >= 0})
    if len(folds) < config.n_folds or any(not fit_groups_of(scan.groups, f"fold_{fold}") for fold in folds):
        folds = []  # too few rows for every fold to have some
    return ["full", *(f"fold_{fold}" for fold in folds), *(["holdout"] if scan.last_day is not None else [])]


def prepare(
    schema_config: SchemaConfig, files: RawFiles, config: PrepareConfig, folder: Path, out: Path, name: str
) -> Path:
    """Prepares raw parquet files; a finished folder made from the same input is left as it is.

    Args:
        schema_config: the roles of the columns.
        files: the raw files, looked up in `folder`.
        config: how vocabularies, statistics and folds are made.
        folder: where relative paths start.
        out: the folder to write.
        name: what the data set is called in run folders and tables.

    Raises:
        InputError: for anything wrong with the input; nothing is written then that a later command takes for whole.
    """
    mark = fingerprint(schema_config, files, config, folder)
    if is_done(out) and read_json(out / layout.SCHEMA_FILE).get("fingerprint") == mark:
        console.print(f"{out} is already prepared from these files with these settings")
        return out
    check_free(out, "prepared data set")
    source = open_source(schema_config, files, folder)
    scan = scan_source(source, config)
    truth = _read_truth(files, folder, scan)
    source = with_histories(source)

    partial = begin_folder(out)
    splits = {split: fit_groups_of(scan.groups, split) for split in split_names(scan, config)}
    vocabularies, sample, lengths = _fit(source, scan, config)
    stats = sample.measure(config, splits)
    encode_source(source, scan, vocabularies, partial)

    np.save(partial / layout.FOLD_INDICES_FILE, order_by_group(scan.group, len(scan.groups)))
    write_json(partial / layout.GROUPS_FILE, layout.Groups(groups=tuple(scan.groups)).model_dump())
    if truth is not None:
        np.save(partial / layout.TRUTH_FILE, truth)
        _keep_generator(files, folder, partial)
    _write_vocabularies(partial, source.schema, vocabularies)
    write_json(
        partial / layout.STATS_FILE,
        {
            "n_rows": {split: sum(group.n_rows for group in scan.groups if group.split == split) for split in SPLITS},
            "n_sampled_rows": len(sample.values),
            "sequences": lengths,
            "numeric": {
                split: {column: s.model_dump() for column, s in by_name.items()} for split, by_name in stats.items()
            },
            "missing_indicators": {
                split: sample.missing_indicators(fit_groups, source.schema.numeric)
                for split, fit_groups in splits.items()
            },
        },
    )
    manifest = layout.Manifest(
        format_version=layout.FORMAT_VERSION,
        fingerprint=mark,
        name=name,
        schema_=source.schema,
        schema_config=schema_config,
        prepare=config,
        last_day=scan.last_day,
        kinds=source.kinds,
        n_rows=len(scan.label),
        test_files=tuple(str(path.resolve()) for path in find_files(files.test, folder)),
        truth_file=str((folder / files.truth).resolve()) if files.truth and truth is not None else None,
    )
    write_json(partial / layout.SCHEMA_FILE, manifest.model_dump(mode="json"))
    finish_folder(out)
    return out


def _fit(
    source: Source, scan: Scan, config: PrepareConfig
) -> tuple[dict[str, Vocabulary], NumericSample, dict[str, dict[str, float]]]:
    """The first pass: counts values and samples numbers of the training rows."""
    schema = source.schema
    counters = {name: VocabularyCounter(len(scan.groups)) for name in schema.vocabularies}
    numbers = NumericCounter(schema.measured, len(scan.groups))
    total_length = dict.fromkeys((sequence.name for sequence in schema.token_sequences), 0)
    longest, n_empty = dict(total_length), dict(total_length)
    n_train = int(sum(group.n_rows for group in scan.groups if group.split == "train"))
    rate = config.n_sampled_rows / n_train
    train_groups = np.array(fit_groups_of(scan.groups, "full"), np.uint8)

    # A train file may hold valid and test rows by its split column: the vocabulary must not see them.
    n_done, wanted = 0, columns_to_read(schema)
    with progress_line("fitting", source.n_rows("train")) as line:
        for _, raw in source.batches("train", wanted):
            here = slice(n_done, n_done + raw.num_rows)
            is_train = np.isin(scan.group[here], train_groups)
            group, hashes = scan.group[here][is_train], scan.hashes[here][is_train]
            table = raw if is_train.all() else raw.filter(pa.array(is_train))
            for column in schema.categorical:
                counters[column].add(encode_values(table[column], f"column {column!r}"), group)
            for sequence in schema.token_sequences:
                jagged = parse_sequence(table, sequence)
                owner = np.repeat(group, np.diff(jagged.offsets))
                counters[sequence.vocabulary].add(encode_values(jagged.tokens, f"column {sequence.column!r}"), owner)
                total_length[sequence.name] += int(jagged.full_lengths.sum(dtype=np.int64))
                longest[sequence.name] = max(longest[sequence.name], int(jagged.full_lengths.max(initial=0)))
                n_empty[sequence.name] += int(np.sum(jagged.full_lengths == 0))
            if schema.measured:
                is_sampled = sample_hashes(hashes, config.seed) < rate
                numbers.add(read_measured(table, schema, is_sampled), group, mix(hashes, _INDICATOR_SEED), is_sampled)
            n_done += raw.num_rows
            line.advance(raw.num_rows)
    vocabularies = {}
    for name, counter in counters.items():
        vocabulary = counter.finish(by_column(config.min_count, config.min_count_by_column, name))
        if vocabulary.counts.sum() + vocabulary.n_rare == 0 and name in schema.categorical:
            raise InputError(f"column {name!r} has no value in the training rows: add it to schema.ignore, or fill it")
        vocabularies[name] = vocabulary
    lengths = {
        name: {"mean_length": total / n_train, "max_length": longest[name], "n_empty": n_empty[name]}
        for name, total in total_length.items()
    }
    return vocabularies, numbers.finish(), lengths


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


def _read_truth(files: RawFiles, folder: Path, scan: Scan) -> np.ndarray | None:
    """[n] float64 true probabilities in the rows' order, joined by split and row number."""
    if files.truth is None or not (folder / files.truth).is_file():
        return None
    (path,) = find_files([files.truth], folder)
    table = open_parquet(path).read(columns=["split", "row_id", "p"])
    truth: list[np.ndarray] = []
    names: tuple[SplitName, ...] = tuple(split for split in SPLITS if split in scan.has_id)
    for split in names:
        mine = table.filter(pc.equal(pc.cast(table["split"], pa.string()), split))
        n = sum(group.n_rows for group in scan.groups if group.split == split)
        p = np.full(n, np.nan)
        row = mine["row_id"].to_numpy()
        if len(row) != n or len(np.unique(row)) != n or row.min() != 0 or row.max() != n - 1:
            raise InputError(f"{path} does not hold one row for each of the {n} {split} rows: it is of other data")
        p[row] = mine["p"].to_numpy()
        truth.append(p)
    return np.concatenate(truth)


def _keep_generator(files: RawFiles, folder: Path, out: Path) -> None:
    """Copies what the generator says of itself in its truth: from it the true preferences can be computed again."""
    assert files.truth is not None
    found = (open_parquet(folder / files.truth).schema_arrow.metadata or {}).get(b"config")
    if found is not None:
        write_json(out / layout.GENERATOR_FILE, json.loads(found))
