"""Two stages: retrieves candidates for a user, and ranks them with the models of the bundle.

recommender = Recommender.load(bundle)
best = recommender.recommend({"user_id": 7, ...}, k=10)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recsys.config import validate
from recsys.data.store import load_array
from recsys.errors import InputError
from recsys.system.files import read_json
from serving.runtime.bundle import Bundle, Scores
from serving.runtime.layout import (
    INDEX_FILE,
    ITEM,
    ITEM_CODES_FILE,
    ITEMS_FILE,
    RETRIEVAL_FILE,
    RetrievalSpec,
)

Exclude = Literal["seen", "none"]
N_CANDIDATES = 200
"""Items that are retrieved and ranked."""


@dataclass(frozen=True)
class Candidates:
    """The retrieved items of a user, in falling order of the towers' score."""

    items: pa.Array
    """[n] text."""
    columns: dict[str, pa.Array]
    """The items' own columns, for the ranking models."""
    retrieval_score: np.ndarray
    """[n] float32 inner products."""


@dataclass(frozen=True)
class Recommended:
    """The best items of a user, in falling order of the click probability."""

    items: pa.Array
    """[k] text."""
    scores: Scores
    """Of these items."""


class Recommender:
    """Retrieves and ranks items.

    Args:
        bundle: the bundle.
        spec: its retrieval.json.
    """

    def __init__(self, bundle: Bundle, spec: RetrievalSpec) -> None:
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise InputError("faiss is not installed, which finds the items: pip install faiss-cpu") from error
        folder = bundle.folder
        self.bundle, self.spec = bundle, spec
        self._tower = Bundle(folder, spec.tower, n_threads=1)
        self._index = faiss.read_index(str(folder / INDEX_FILE))
        self._items: pa.Table = pa.ipc.open_file(pa.memory_map(str(folder / ITEMS_FILE))).read_all().combine_chunks()
        self._item_of_code = load_array(folder / ITEM_CODES_FILE)
        self.columns = tuple(
            name
            for name in dict.fromkeys((*self._tower.columns, *bundle.columns))
            if name not in self._items.column_names
        )
        """The columns of the user and the context that a request has."""

    @classmethod
    def load(cls, bundle: Bundle) -> "Recommender | None":
        """Loads the retrieval part of a bundle; None for a bundle without one.

        Raises:
            InputError: when faiss is not installed.
        """
        path: Path = bundle.folder / RETRIEVAL_FILE
        return cls(bundle, validate(RetrievalSpec, read_json(path), str(path))) if path.is_file() else None

    def candidates(self, user: Mapping[str, Any], n: int = N_CANDIDATES, exclude: Exclude = "seen") -> Candidates:
        """Retrieves items.

        Args:
            user: the columns of the user and the context.
            n: the number of items; fewer if there are no more.
            exclude: seen: no items of the user's histories.

        Raises:
            InputError: for a missing column, or a value that cannot be read.
        """
        if not isinstance(user, Mapping):
            raise InputError(f"user must map columns to values, got {type(user).__name__}: correct it")
        item = dict.fromkeys(name for name in self._tower.columns if name in self._items.column_names)
        request = self._tower.encode(self._tower.read([item], user))
        vector = np.ascontiguousarray(self._tower.outputs([request]), np.float32)
        seen = np.zeros(0, np.int64)
        if exclude == "seen":
            codes = [request.tokens[name].codes for name in self.spec.histories]
            seen = np.unique(self._item_of_code[np.concatenate([*codes, np.zeros(0, np.int32)]).astype(np.int64)])
        n_found = min(n + len(seen), self._index.ntotal)
        scores, places = self._index.search(vector, n_found)
        is_kept = (places[0] >= 0) & ~np.isin(places[0], seen)
        kept, scores = places[0][is_kept][:n], scores[0][is_kept][:n]
        rows = self._items.take(pa.array(kept))
        columns = {name: rows[name].combine_chunks() for name in self.spec.item_columns}
        return Candidates(rows[ITEM].combine_chunks(), columns, scores)

    def recommend(
        self, user: Mapping[str, Any], k: int = 10, n_candidates: int = N_CANDIDATES, exclude: Exclude = "seen"
    ) -> Recommended:
        """Retrieves items, scores them with the bundle, and returns the best k.

        Args:
            user: the columns of the user and the context.
            k: the number of items; fewer if there are no more.
            n_candidates: the number of items that are ranked.
            exclude: seen: no items of the user's histories.

        Raises:
            InputError: for a missing column, or a value that cannot be read.
        """
        found = self.candidates(user, max(k, n_candidates), exclude)
        if len(found.items) == 0:
            return Recommended(found.items, Scores(np.zeros(0), self.bundle.spec.log_pos_weight))
        return best(found, self.bundle.score(pa.table(found.columns), user), k)


def best(found: Candidates, scores: Scores, k: int) -> Recommended:
    """The k candidates with the highest scores; of equal ones, those that were retrieved first."""
    order = np.argsort(-scores.logit, kind="stable")[:k]
    return Recommended(found.items.take(pa.array(order)), Scores(scores.logit[order], scores.log_pos_weight))
