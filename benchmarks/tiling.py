"""A prepared data set of any size, from the rows of a small one written over and over."""

import shutil
from pathlib import Path

import numpy as np

from recsys.data import layout
from recsys.data.arrow import ArrowFile, FixedColumn
from recsys.data.dataset import PreparedDataset
from recsys.prepare.scan import order_by_group
from recsys.prepare.writers import JaggedWriter, RowWriter
from recsys.system.files import begin_folder, finish_folder, read_json, write_json


def tile(base: PreparedDataset, n_rows: int, folder: Path, rows: np.ndarray | None = None) -> None:
    """Writes `n_rows` rows: all that is fitted to them stays that of the base's rows.

    Args:
        base: a prepared data set.
        n_rows: how many rows the new one is to have.
        folder: the new one.
        rows: those of the base that are written over and over once all have been written; None for all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = begin_folder(folder)
    for name in (layout.VOCAB_FILE, layout.STATS_FILE, layout.COUNTS_FILE, layout.ITEMS_FILE):
        if (base.folder / name).is_file():
            shutil.copy(base.folder / name, partial / name)
    schema = base.manifest.schema_
    file = ArrowFile(base.folder / layout.ROWS_FILE)
    types = {field.name: field.type for field in file.schema}
    columns = {name: FixedColumn(file, name) for name in types}
    every = np.arange(base.n_rows)
    pieces, n_left = [every[:n_rows]], n_rows - base.n_rows
    while n_left > 0:
        pieces.append((every if rows is None else rows)[:n_left])
        n_left -= len(pieces[-1])
    with RowWriter(partial / layout.ROWS_FILE, types) as writer:
        for piece in pieces:
            writer.add({name: read(piece) for name, read in columns.items()})
    for sequence in schema.token_sequences:
        with JaggedWriter(partial / layout.tokens_file(sequence.name), sequence.name) as jagged:
            for piece in pieces:
                jagged.add(*base.store.encoded(piece).tokens[sequence.name])
    label, group = (columns[name](np.concatenate(pieces)) for name in (layout.LABEL, layout.GROUP))
    groups = [
        found.model_copy(
            update={"n_rows": int(np.sum(group == index)), "n_positive": int(np.sum(label[group == index] == 1))}
        )
        for index, found in enumerate(base.groups)
    ]
    np.save(partial / layout.FOLD_INDICES_FILE, order_by_group(group, len(groups)))
    write_json(partial / layout.GROUPS_FILE, layout.Groups(groups=tuple(groups)).model_dump())
    manifest = read_json(base.folder / layout.SCHEMA_FILE) | {"n_rows": n_rows}
    write_json(partial / layout.SCHEMA_FILE, manifest)
    finish_folder(folder)
