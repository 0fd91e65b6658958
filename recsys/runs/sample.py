"""A sample submission: the header and the ids that a submission must have, in their order."""

import codecs
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.errors import InputError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """A sample submission."""

    path: Path
    id_name: str
    label_name: str
    ids: pa.Array
    """[n] text."""


def read_sample(path: Path) -> Sample:
    """Reads the header and the ids of a sample submission.

    Raises:
        InputError: if it is not a CSV file in UTF-8 with two columns, has no rows, or repeats an id.
    """
    check_utf8(path)
    try:
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        header = pa_csv.open_csv(path, parse_options=parse).schema.names
        if len(header) != 2:
            raise InputError(
                f"{path} has {len(header)} columns: a sample submission must have two, the id and the score"
            )
        if header[0] == header[1]:
            raise InputError(f"{path} has two columns named {header[0]!r}: rename one")
        convert = pa_csv.ConvertOptions(column_types={header[0]: pa.string()}, include_columns=header[:1])
        ids = pa_csv.read_csv(path, parse_options=parse, convert_options=convert)[header[0]].combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}): correct --sample") from error
    if len(ids) == 0:
        raise InputError(f"{path} has a header and no rows: write the id of each row to score")
    check_distinct(ids, header[0], path)
    return Sample(path, header[0], header[1], ids)


def check_distinct(ids: pa.Array, name: str, path: Path) -> None:
    """Checks that no two rows have the same id.

    Raises:
        InputError: with the numbers of the first two rows that share one; the first row after the header is row 1.
    """
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return
    codes = ids.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    _, first_rows, id_of_row = np.unique(codes, return_index=True, return_inverse=True)
    row = int(np.flatnonzero(first_rows[id_of_row] != np.arange(len(codes)))[0])
    raise InputError(
        f"{path} repeats an id in column {name!r}: row {row + 1} has {ids[row].as_py()!r}, as row "
        f"{int(first_rows[id_of_row[row]]) + 1} has: ids must be unique"
    )


def check_utf8(path: Path) -> None:
    """Checks that a file is text in UTF-8.

    Raises:
        InputError: with the line of the first byte that is not; or if the file cannot be read.
    """
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
                if b"\0" in block:  # UTF-16 has zero bytes, text in UTF-8 has not
                    raise UnicodeDecodeError("utf-8", block, block.index(b"\0"), len(block), "zero byte")
                line += block.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        raise InputError(f"{path} is not UTF-8 text: see line {line}, and save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): correct the path") from error
