"""The target items of all rows, for the catalog: items below the frequency floor of features are included."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.vocabulary import Codes


class ItemList:
    """Numbers items in the order of their first occurrence."""

    def __init__(self) -> None:
        self._names = pa.array([], pa.string())

    def number(self, items: Codes) -> np.ndarray:
        """Returns the [n] int32 item numbers of [n] codes; -1 for null."""
        distinct_codes, first_rows = np.unique(items.codes[items.codes >= 0], return_index=True)
        names = pc.unique(items.values.take(pa.array(distinct_codes[np.argsort(first_rows)])))
        is_known = pc.is_in(names, value_set=self._names)
        self._names = pa.concat_arrays([self._names, names.filter(pc.invert(is_known))])
        numbers = pc.index_in(items.values, value_set=self._names).to_numpy(zero_copy_only=False)
        return np.append(numbers, -1).astype(np.int32)[items.codes]

    def write(self, folder: Path) -> None:
        """Writes items.arrow."""
        batch = pa.RecordBatch.from_arrays([self._names], [layout.ITEM])
        with pa.ipc.new_file(folder / layout.ITEMS_FILE, batch.schema) as file:
            file.write_batch(batch)
