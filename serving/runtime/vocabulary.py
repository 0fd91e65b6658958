"""The codes of texts: a sorted index of hashes, memory-mapped, so that loading takes no time at any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data.store import load_array
from recsys.data.vocabulary import MISSING_ID, N_RESERVED, RARE_ID
from recsys.system.hashing import hash_ids, hash_text
from serving.runtime.layout import CODES_FILE, HASHES_FILE, VALUES_FILE
from serving.runtime.plain_text import is_plain

_VALUE = "value"
FEW = 128
"""Up to this number of new values, a look-up of each is faster than the first call of an Arrow function."""
MAX_REMEMBERED = 1 << 16
"""Values that a table of values seen before holds; it is emptied when it is full, so that memory is bounded."""


class ValueIndex:
    """Maps canonical texts to the codes of a vocabulary.

    Args:
        folder: a folder that `write_index` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._hashes, self._codes = (np.asarray(load_array(folder / file)) for file in (HASHES_FILE, CODES_FILE))
        source = pa.memory_map(str(folder / VALUES_FILE))
        self.values: pa.Array = pa.ipc.open_file(source).read_all()[_VALUE].combine_chunks()
        """Texts by code, less the reserved codes."""
        self._seen: dict[str, int] = {}

    def codes_of_texts(self, texts: Sequence[str]) -> list[int]:
        """Returns the codes of texts, and remembers them."""
        seen = self._seen
        try:
            return [seen[text] for text in texts]
        except KeyError:
            pass
        unseen = [text for text in dict.fromkeys(texts) if text not in seen]
        if len(unseen) <= FEW and all(map(is_plain, unseen)):
            codes = {text: self.code(text) for text in unseen}
        else:
            codes = dict(zip(unseen, self.codes(pa.array(unseen, pa.string())).tolist(), strict=True))
        if len(seen) + len(codes) > MAX_REMEMBERED:
            known = {text: seen[text] for text in texts if text not in codes}
            seen.clear()
            return [codes[text] if text in codes else known[text] for text in texts]
        seen.update(codes)
        return [seen[text] for text in texts]

    def code(self, text: str | None) -> int:
        """Returns the code of one plain text, see `is_plain`, or of null, as `codes` does."""
        if text is None:
            return MISSING_ID
        value = np.uint64(hash_text(text))
        position = int(self._hashes.searchsorted(value))
        if position < len(self._hashes) and self._hashes[position] == value:
            code = int(self._codes[position])
            if self.values[code - N_RESERVED].as_py() == text:
                return code
        return RARE_ID

    def codes(self, texts: pa.Array) -> np.ndarray:
        """Returns the [n] int32 codes of texts: missing for null, rare for a text that the vocabulary lacks."""
        codes = np.full(len(texts), RARE_ID, np.int32)
        is_null = np.asarray(texts.is_null())
        codes[is_null] = MISSING_ID
        if len(self._hashes):
            rows = np.flatnonzero(~is_null)
            present = texts.take(pa.array(rows)) if is_null.any() else texts
            hashes = hash_ids(present)
            position = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            hit = np.flatnonzero(self._hashes[position] == hashes)
            found = self._codes[position[hit]]
            stored = self.values.take(pa.array(found - N_RESERVED))
            is_equal = np.asarray(pa.compute.equal(stored, present.take(pa.array(hit)).cast(pa.string())))
            codes[rows[hit[is_equal]]] = found[is_equal]
        return codes


def write_index(values: pa.Array, folder: Path) -> None:
    """Writes the index of a vocabulary.

    Args:
        values: the texts; text k has code k + 2.
        folder: an empty folder.
    """
    hashes = hash_ids(values)
    order = np.argsort(hashes, kind="stable")
    # of texts that share a hash, the most frequent one is found
    is_first = np.append(True, np.diff(hashes[order]) != 0) if len(order) else np.zeros(0, bool)
    order = order[is_first]
    np.save(folder / HASHES_FILE, hashes[order])
    np.save(folder / CODES_FILE, (order + N_RESERVED).astype(np.int32))
    table = pa.table({_VALUE: values.cast(pa.string())})
    with pa.OSFile(str(folder / VALUES_FILE), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
