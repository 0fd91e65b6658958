"""Builds a prepared data set of any size by repeating the rows of a small one."""

import shutil
from pathlib import Path

import numpy as np

from recsys.data import layout
from recsys.data.arrow import ArrowFile, FixedColumn
from recsys.data.dataset import PreparedDataset
from recsys.prepare.partition.groups import order_by_group
from recsys.prepare.writers import JaggedWriter, RowWriter
from recsys.system.files import begin_folder, finish_folder, read_json, write_json


def tile(base: PreparedDataset, n_rows: int, folder: Path, rows: np.ndarray | None = None) -> None:
    """Writes a prepared data set of `n_rows` rows; its vocabularies and statistics are those of the base.

    Args:
        base: a prepared data set.
        n_rows: number of rows to write.
        folder: the folder to write.
        rows: row numbers of the base to repeat after one pass over all its rows; None repeats all rows.
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
    all_rows = np.arange(base.n_rows)
    blocks, n_left = [all_rows[:n_rows]], n_rows - base.n_rows
    while n_left > 0:
        blocks.append((all_rows if rows is None else rows)[:n_left])
        n_left -= len(blocks[-1])
    with RowWriter(partial / layout.ROWS_FILE, types) as writer:
        for block in blocks:
            writer.add({name: read(block) for name, read in columns.items()})
    for sequence in schema.token_sequences:
        with JaggedWriter(partial / layout.tokens_file(sequence.name), sequence.name) as jagged:
            for block in blocks:
                jagged.add(*base.store.encoded(block).tokens[sequence.name])
    label, group_index = (columns[name](np.concatenate(blocks)) for name in (layout.LABEL, layout.GROUP))
    groups = [
        group.model_copy(
            update={
                "n_rows": int(np.sum(group_index == index)),
                "n_positive": int(np.sum(label[group_index == index] == 1)),
            }
        )
        for index, group in enumerate(base.groups)
    ]
    np.save(partial / layout.FOLD_INDICES_FILE, order_by_group(group_index, len(groups)))
    write_json(partial / layout.GROUPS_FILE, layout.Groups(groups=tuple(groups)).model_dump())
    manifest = read_json(base.folder / layout.SCHEMA_FILE) | {"n_rows": n_rows}
    write_json(partial / layout.SCHEMA_FILE, manifest)
    finish_folder(folder)
