"""The sizes of vector columns, as the files have them."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.files.raw_file import RawFile
from recsys.schema.config import SchemaConfig
from recsys.schema.kinds import kind_of
from recsys.schema.vectors import VectorConfig, vector_sizes


def with_vector_sizes(
    config: SchemaConfig, files: Sequence[RawFile], side_files: Mapping[str, Sequence[RawFile]]
) -> SchemaConfig:
    """Returns the schema with the size of each vector column: as the config gives it, or as the first vector has it.

    Args:
        config: the roles as a user writes them.
        files: the training files.
        side_files: the files of each column of a side table.

    Raises:
        InputError: for a column without a vector, whose size the config does not give.
    """
    sizes = {}
    for name, size in vector_sizes(config.vectors).items():
        of_column = [file for file in side_files.get(name, files) if name in file.names]
        sizes[name] = VectorConfig(size=_first_size(name, of_column) if size is None and of_column else size)
    return config.model_copy(update={"vectors": sizes}) if sizes else config


def _first_size(name: str, files: Sequence[RawFile]) -> int | None:
    """The size of the first vector of a column; None for a column that has no lists."""
    for file in files:
        dtype = file.types[name]
        if pa.types.is_fixed_size_list(dtype):
            return int(dtype.list_size)
        if kind_of(dtype) not in ("list", "null"):
            return 1  # refused with its type
        for table in file.read([name]):
            lengths = pc.list_value_length(table[name]) if kind_of(dtype) == "list" else pa.nulls(0)
            if len(known := pc.drop_null(lengths)):
                size = int(known[0].as_py())
                if size == 0:
                    raise InputError(f"{file.path}: the first vector of column {name!r} is empty: write null instead")
                return size
    raise InputError(
        f"schema.vectors.{name}: no row of {files[0].path} has a vector, from which its size would be found: set size, "
        "or remove the column from the schema"
    )
