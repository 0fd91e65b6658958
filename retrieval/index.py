"""The index: the items nearest to a request among very many, by FAISS, exactly or nearly so.

Vectors are compared by inner product. Source: Douze et al., "The Faiss library", arXiv 2401.08281.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from pydantic import Field

from recsys.config import StrictModel, validate
from recsys.errors import InputError
from recsys.system.files import read_json, write_json

INDEX_FILE, DESCRIPTION_FILE = "index.faiss", "index.json"
IndexKind = Literal["flat", "ivf_flat", "ivf_pq", "hnsw"]
N_RECALLED = 100
"""K of the recall against exact search that parameters are chosen by."""
_BLOCK = 65_536
_QUERY_BLOCK = 4096
_TRAINING_VECTORS_PER_LIST = 64
_FEW_ADS = 20_000  # exact search takes microseconds an item set then
_N_TUNING_QUERIES = 1000
_MARGIN = 0.005  # recall on other queries may fall a little short


class IndexConfig(StrictModel):
    """Which index."""

    kind: Literal["auto", IndexKind] = "auto"
    """auto: exact search up to 20,000 items, inverted lists beyond."""
    wanted_recall: float = Field(default=0.95, gt=0, le=1)
    """Of the 100 best by exact search, the share to find: n_probe or ef_search is the smallest that does."""
    n_lists: int | None = Field(default=None, ge=1)
    """Inverted lists; null for about four times the root of the number of items."""
    n_probe: int | None = Field(default=None, ge=1)
    """Lists that a query looks into; null to reach the wanted recall."""
    pq_bytes: int | None = Field(default=None, ge=1)
    """Bytes a vector takes under product quantization; null for half a byte a dimension."""
    hnsw_links: int = Field(default=32, ge=2)
    ef_construction: int = Field(default=100, ge=1)
    ef_search: int | None = Field(default=None, ge=1)
    """Candidates that HNSW keeps in a search; null to reach the wanted recall."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to search; auto takes a GPU where faiss was built for one and has the index."""


class IndexDescription(StrictModel):
    """index.json: what stands in index.faiss."""

    kind: IndexKind
    n_vectors: int
    width: int
    parameters: dict[str, int]
    n_bytes: int
    sha256: str
    model: str
    """Identity of the towers that the vectors are of."""


class ItemIndex:
    """Vectors that can be searched.

    Args:
        kind: of the index.
        index: a faiss index, on the CPU.
        device: where to search it.

    Raises:
        InputError: when a GPU is asked for and there is none that has this kind of index.
    """

    def __init__(self, kind: IndexKind, index: Any, device: Literal["auto", "cpu", "gpu"] = "auto") -> None:
        self.kind, self.index = kind, index
        has_gpu = kind != "hnsw" and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
        if device == "gpu" and not has_gpu:
            raise InputError(
                "index.device=gpu: faiss sees no GPU, or has no hnsw there: install faiss-gpu in place of faiss-cpu, "
                "and take flat, ivf_flat or ivf_pq"
            )
        self.is_on_gpu = has_gpu and device != "cpu"
        self._searched = index
        if self.is_on_gpu:
            self._resources = faiss.StandardGpuResources()
            self._searched = faiss.index_cpu_to_gpu(self._resources, 0, index)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def parameters(self) -> dict[str, int]:
        """What recall depends on."""
        match self.kind:
            case "flat":
                return {}
            case "hnsw":
                return {"links": self.index.hnsw.nb_neighbors(1), "ef_search": self.index.hnsw.efSearch}
            case "ivf_flat":
                return {"n_lists": self.index.nlist, "n_probe": self.index.nprobe}
            case "ivf_pq":
                return {"n_lists": self.index.nlist, "n_probe": self.index.nprobe, "pq_bytes": self.index.pq.code_size}

    def set_effort(self, value: int) -> None:
        """Sets n_probe or ef_search."""
        for index in {id(i): i for i in (self.index, self._searched)}.values():
            if self.kind == "hnsw":
                index.hnsw.efSearch = value
            elif self.kind != "flat":
                index.nprobe = value

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best of each of [n, d] queries, block by block.

        Returns:
            [n, k] float32 inner products, falling, and [n, k] int64 places; -1 where fewer were found.
        """
        scores, places = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            here = slice(start, start + _QUERY_BLOCK)
            block = np.ascontiguousarray(queries[here], np.float32)
            scores[here], places[here] = self._searched.search(block, k)
        return scores, places

    def save(self, folder: Path, model: str) -> IndexDescription:
        """Writes index.faiss, and index.json that tells of it."""
        partial = folder / f"{INDEX_FILE}.tmp"
        faiss.write_index(self.index, str(partial))
        description = IndexDescription(
            kind=self.kind,
            n_vectors=len(self),
            width=self.index.d,
            parameters=self.parameters,
            n_bytes=partial.stat().st_size,
            sha256=_checksum(partial),
            model=model,
        )
        partial.rename(folder / INDEX_FILE)
        write_json(folder / DESCRIPTION_FILE, description.model_dump())
        return description


def load_index(folder: Path, model: str | None = None, device: Literal["auto", "cpu", "gpu"] = "auto") -> ItemIndex:
    """An index that `ItemIndex.save` wrote.

    Args:
        folder: where.
        model: identity of the towers it must be of; None takes any.
        device: where to search it.

    Raises:
        InputError: when a file is missing or changed, or the index is of other towers.
    """
    path = folder / INDEX_FILE
    described = validate(IndexDescription, read_json(folder / DESCRIPTION_FILE), str(folder / DESCRIPTION_FILE))
    if not path.is_file() or _checksum(path) != described.sha256:
        raise InputError(f"{path} is missing or not what {DESCRIPTION_FILE} tells of: build the index again")
    if model is not None and described.model != model:
        raise InputError(f"{path} holds vectors of other towers ({described.model}, not {model}): build it again")
    return ItemIndex(described.kind, faiss.read_index(str(path)), device)


def build_index(
    vectors: np.ndarray, config: IndexConfig, seed: int = 0, queries: np.ndarray | None = None
) -> ItemIndex:
    """Builds an index and chooses how far to search it.

    Args:
        vectors: [n, d] float32; read block by block, and may be memory-mapped.
        config: which index.
        seed: of clustering, and of the vectors that it and the choice look at.
        queries: [m, d] requests to choose by; None takes some of the vectors.

    Raises:
        InputError: when the numbers do not fit together.
    """
    n, d = vectors.shape
    if n == 0:
        raise InputError("an index needs one vector or more: the catalog is empty")
    kind: IndexKind = config.kind if config.kind != "auto" else "flat" if n <= _FEW_ADS else "ivf_flat"
    rng = np.random.default_rng(seed)
    index = _empty(kind, n, d, config)
    if not index.is_trained:
        sample = np.sort(rng.choice(n, min(n, _TRAINING_VECTORS_PER_LIST * index.nlist), replace=False))
        index.cp.seed = seed + 1
        index.train(np.ascontiguousarray(vectors[sample], np.float32))
    for start in range(0, n, _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32))
    found = ItemIndex(kind, index, config.device)
    given = config.ef_search if kind == "hnsw" else config.n_probe
    if given is not None:
        found.set_effort(given)
    elif kind != "flat":
        asked = vectors if queries is None else queries
        asked = asked[np.sort(rng.choice(len(asked), min(len(asked), _N_TUNING_QUERIES), replace=False))]
        choose_effort(found, vectors, asked, config.wanted_recall)
    return found


def _empty(kind: IndexKind, n: int, d: int, config: IndexConfig) -> Any:
    """An index without vectors."""
    if kind == "flat":
        return faiss.index_factory(d, "Flat", faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index: Any = faiss.index_factory(d, f"HNSW{config.hnsw_links},Flat", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = config.ef_construction
        return index
    n_lists = config.n_lists or max(1, min(round(4 * n**0.5), n // 39 or 1))
    if n_lists > n:
        raise InputError(f"index.n_lists={n_lists} is more than the {n} items: lower it")
    if kind == "ivf_flat":
        return faiss.index_factory(d, f"IVF{n_lists},Flat", faiss.METRIC_INNER_PRODUCT)
    n_bytes = config.pq_bytes or max(1, d // 2)
    if d % n_bytes:
        raise InputError(f"index.pq_bytes={n_bytes} must divide the vectors' width {d}: change it")
    return faiss.index_factory(d, f"IVF{n_lists},PQ{n_bytes}x8np", faiss.METRIC_INNER_PRODUCT)


def choose_effort(index: ItemIndex, vectors: np.ndarray, queries: np.ndarray, wanted: float) -> float:
    """Sets the smallest n_probe or ef_search that reaches a recall; the largest where none does.

    Returns:
        The recall on these queries.
    """
    exact = exact_search(vectors, queries, N_RECALLED)
    low = 1 if index.kind != "hnsw" else min(N_RECALLED, len(index))
    high = index.index.nlist if index.kind != "hnsw" else max(low, min(len(index), 4096))
    target = min(1.0, wanted + _MARGIN)
    value, recall = low, 0.0
    while True:  # doubling, then halving the gap
        index.set_effort(value)
        recall = recall_of(index, queries, exact)
        if recall >= target or value == high:
            break
        low, value = value + 1, min(high, 2 * value)
    best, best_recall, high = value, recall, value
    while low < high and best_recall >= target:
        middle = (low + high) // 2
        index.set_effort(middle)
        recall = recall_of(index, queries, exact)
        if recall >= target:
            high, best, best_recall = middle, middle, recall
        else:
            low = middle + 1
    index.set_effort(best)
    return best_recall


def exact_search(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """[m, k] int64 places of the best of [n, d] vectors for [m, d] queries, block by block."""
    k = min(k, len(vectors))
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    asked = np.ascontiguousarray(queries, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)
        scores, places = faiss.knn(asked, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, places + start)
    heap.finalize()
    return heap.I


def recall_of(index: ItemIndex, queries: np.ndarray, exact: np.ndarray) -> float:
    """The share of the [m, k] exact places that the index finds among its k best."""
    _, found = index.search(queries, exact.shape[1])
    hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, exact, strict=True)]
    return float(np.sum(hits) / exact.size)


def queries_per_s(index: ItemIndex, queries: np.ndarray, k: int, n_rounds: int = 3) -> float:
    """The best of some rounds, all queries at once."""
    times = []
    for _ in range(n_rounds):
        start = time.perf_counter()
        index.search(queries, k)
        times.append(time.perf_counter() - start)
    return len(queries) / min(times)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
