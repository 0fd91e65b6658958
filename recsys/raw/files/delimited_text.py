"""CSV and TSV files, also compressed. Every column is read as text: its role gives the type, not a look at its values.

An empty cell without quotes is null.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys.errors import InputError
from recsys.raw.files.find import DELIMITED, partition_values
from recsys.raw.files.raw_file import READ_ROWS, RawFile

_BLOCK_BYTES = 16 << 20
_HEADER_BYTES = 1 << 20
_DELIMITERS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}


class DelimitedFile(RawFile):
    """A CSV or TSV file with a header. It has one row group."""

    @classmethod
    def open(cls, path: Path) -> "DelimitedFile":
        """Reads the header and counts the rows.

        Raises:
            InputError: if the file is empty, its cells are separated by another character than its name says, or a line
                has another number of cells than the header.
        """
        names = _header(path)
        n_rows = sum(batch.num_rows for batch in _batches(path, names[:1], len(names)))
        partitions = {name: value for name, value in partition_values(path).items() if name not in names}
        all_names = (*names, *partitions)
        types = dict.fromkeys(all_names, pa.string())
        return cls(path, all_names, types, frozenset(all_names), (n_rows,), partitions)

    def _read_stored(self, columns: Sequence[str], row_groups: Sequence[int]) -> Iterator[pa.Table]:
        n_columns = len(self.names) - len(self.partitions)
        for batch in _batches(self.path, columns or self.names[:1], n_columns):
            for start in range(0, batch.num_rows, READ_ROWS):
                table = pa.Table.from_batches([batch.slice(start, READ_ROWS)])
                for index, name in enumerate(table.column_names):
                    # the bytes are checked where all text is checked, which names the row
                    table = table.set_column(index, name, table[name].combine_chunks().view(pa.string()))
                yield table.select(list(columns))


def is_delimited(path: Path) -> bool:
    """Whether a file's name is that of a CSV or TSV file."""
    return path.name.lower().endswith(DELIMITED)


def delimiter_of(path: Path) -> str:
    """Returns the delimiter of a CSV or TSV file, by its name."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _header(path: Path) -> tuple[str, ...]:
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): write it again")
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path} is UTF-16 text: save it as UTF-8")
    try:
        _check_delimiter(path)
        with _open(path, pa_csv.ConvertOptions(check_utf8=False)) as reader:
            return tuple(reader.schema.names)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the header is not UTF-8 ({error.object!r}): save the file as UTF-8") from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _check_delimiter(path: Path) -> None:
    """Raises InputError for a first line without the delimiter of the file's name, but with another one."""
    expected, found = delimiter_of(path), _delimiters_in_header(path)
    if found and expected not in found:
        other = next(name for character, name in _DELIMITERS.items() if character in found)
        raise InputError(
            f"{path}: the header has no {_DELIMITERS[expected]} but {other}s: write it with commas "
            "between cells and points in decimals, or with tabs as a .tsv file"
        )


def _delimiters_in_header(path: Path) -> set[str]:
    with pa.input_stream(str(path)) as stream:
        first = stream.read(_HEADER_BYTES).lstrip(b"\r\n").partition(b"\n")[0].decode(errors="replace")
    return {character for character in _DELIMITERS if character in first}


def _batches(path: Path, columns: Sequence[str], n_columns: int) -> Iterator[pa.RecordBatch]:
    """Streams some of a file's columns as binary; an empty cell without quotes is null."""
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.binary()),
        include_columns=list(columns),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    try:
        with _open(path, convert, ignore_empty_lines=n_columns > 1) as reader:
            yield from reader
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _open(path: Path, convert: pa_csv.ConvertOptions, ignore_empty_lines: bool = True) -> pa_csv.CSVStreamingReader:
    parse = pa_csv.ParseOptions(
        delimiter=delimiter_of(path), newlines_in_values=True, ignore_empty_lines=ignore_empty_lines
    )
    read = pa_csv.ReadOptions(block_size=_BLOCK_BYTES)
    return pa_csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    others = _delimiters_in_header(path) - {delimiter_of(path)} if "CSV parse error" in reason else set()
    names = " and ".join(sorted(f"{_DELIMITERS[character]}s" for character in others))
    hint = f"; its header also has {names}, which separate no cells here" if others else ""
    return InputError(f"{path} is not a readable CSV file ({reason}{hint}): correct it, or write it again")
