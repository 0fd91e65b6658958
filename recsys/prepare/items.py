"""The target items of all rows: names for a catalog, whatever the frequency floor leaves of them as features."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.vocabulary import Codes


class ItemList:
    """Numbers items in the order in which they are first met."""

    def __init__(self) -> None:
        self._names = pa.array([], pa.string())

    def number(self, items: Codes) -> np.ndarray:
        """[n] int32 numbers of an array's entries; -1 for null."""
        used, first = np.unique(items.codes[items.codes >= 0], return_index=True)
        names = pc.unique(items.values.take(pa.array(used[np.argsort(first)])))
        known = pc.is_in(names, value_set=self._names)
        self._names = pa.concat_arrays([self._names, names.filter(pc.invert(known))])
        found = pc.index_in(items.values, value_set=self._names).to_numpy(zero_copy_only=False)
        return np.append(found, -1).astype(np.int32)[items.codes]

    def write(self, folder: Path) -> None:
        """Writes items.arrow."""
        batch = pa.RecordBatch.from_arrays([self._names], [layout.ITEM])
        with pa.ipc.new_file(folder / layout.ITEMS_FILE, batch.schema) as file:
            file.write_batch(batch)
