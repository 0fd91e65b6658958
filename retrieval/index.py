"""An index of item vectors: exact or approximate search for the largest inner products, by FAISS.

Source: Douze et al., "The Faiss library", arXiv 2401.08281.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np

from recsys.config import StrictModel, validate
from recsys.errors import InputError
from recsys.system.files import read_json, write_json
from recsys.system.progress import console
from retrieval.config import IndexConfig, IndexKind

INDEX_FILE, DESCRIPTION_FILE = "index.faiss", "index.json"
N_RECALLED = 100
"""K of the recall@K against exact search that tunes n_probe and ef_search."""
_BLOCK = 65_536
_QUERY_BLOCK = 4096
_TRAINING_VECTORS_PER_LIST = 64
_PQ_CENTROIDS = 256  # of each byte; their clustering needs at least as many vectors
_MAX_FLAT_ITEMS = 20_000  # exact search of so few items takes microseconds
_N_TUNING_QUERIES = 1000
_MARGIN = 0.005  # recall may be slightly lower on queries that were not used for tuning


class IndexDescription(StrictModel):
    """index.json: the description of index.faiss."""

    kind: IndexKind
    n_vectors: int
    width: int
    parameters: dict[str, int]
    n_bytes: int
    sha256: str
    model: str
    """Identity of the towers that computed the vectors."""


class ItemIndex:
    """A searchable FAISS index of vectors.

    Args:
        kind: kind of the index.
        index: a faiss index on the CPU.
        device: device to search on.

    Raises:
        InputError: when device is gpu and faiss finds no GPU or cannot search this index on it.
    """

    def __init__(self, kind: IndexKind, index: Any, device: Literal["auto", "cpu", "gpu"] = "auto") -> None:
        self.kind, self.index = kind, index
        has_gpu = kind != "hnsw" and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
        if device == "gpu" and not has_gpu:
            raise InputError(
                f"index.device=gpu needs a GPU, faiss-gpu and a kind other than hnsw, got kind={kind}: "
                "install faiss-gpu instead of faiss-cpu, and set kind to flat, ivf_flat or ivf_pq"
            )
        self.is_on_gpu = has_gpu and device != "cpu"
        self._search_index = index
        if self.is_on_gpu:
            self._resources = faiss.StandardGpuResources()
            try:
                self._search_index = faiss.index_cpu_to_gpu(self._resources, 0, index)
            except RuntimeError as error:  # faiss has GPU code for some values of pq_bytes only
                message = f"faiss has no GPU search for this {kind} index"
                if device == "gpu":
                    raise InputError(f"{message}: set index.device=cpu, or change index.pq_bytes") from error
                console.print(f"{message}: it is searched on the CPU")
                self.is_on_gpu = False

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters that determine recall."""
        match self.kind:
            case "flat":
                return {}
            case "hnsw":
                return {"links": self.index.hnsw.nb_neighbors(1), "ef_search": self.index.hnsw.efSearch}
            case "ivf_flat" | "ivf_pq":
                lists = without_padding(self.index)
                n_bytes = {"pq_bytes": lists.pq.code_size} if self.kind == "ivf_pq" else {}
                return {"n_lists": lists.nlist, "n_probe": lists.nprobe, **n_bytes}

    def set_search_parameter(self, value: int) -> None:
        """Sets n_probe or ef_search."""
        for index in {id(i): i for i in (self.index, self._search_index)}.values():
            if self.kind == "hnsw":
                index.hnsw.efSearch = value
            elif self.kind != "flat":
                without_padding(index).nprobe = value

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best vectors for each of [n, d] queries, block by block.

        Returns:
            [n, k] float32 inner products in falling order, and [n, k] int64 vector indices, -1 after the last result.
        """
        scores, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            rows = slice(start, start + _QUERY_BLOCK)
            block = np.ascontiguousarray(queries[rows], np.float32)
            scores[rows], indices[rows] = self._search_index.search(block, k)
        return scores, indices

    def save(self, folder: Path, model: str) -> IndexDescription:
        """Writes index.faiss and its description index.json."""
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
    """Loads an index that `ItemIndex.save` wrote.

    Args:
        folder: the folder of the index.
        model: expected identity of the towers; None accepts any.
        device: device to search on.

    Raises:
        InputError: when a file is missing or changed, or other towers computed the vectors.
    """
    path = folder / INDEX_FILE
    description = validate(IndexDescription, read_json(folder / DESCRIPTION_FILE), str(folder / DESCRIPTION_FILE))
    if not path.is_file() or _checksum(path) != description.sha256:
        raise InputError(f"{path} is missing or does not match {DESCRIPTION_FILE}: build the index again")
    if model is not None and description.model != model:
        raise InputError(f"{path} has vectors of other towers ({description.model}, not {model}): build it again")
    return ItemIndex(description.kind, faiss.read_index(str(path)), device)


def build_index(
    vectors: np.ndarray, config: IndexConfig, seed: int = 0, queries: np.ndarray | None = None
) -> ItemIndex:
    """Builds an index and tunes n_probe or ef_search.

    Args:
        vectors: [n, d] float32; read block by block, may be memory-mapped.
        config: settings of the index.
        seed: seed of the clustering, and of the samples for clustering and tuning.
        queries: [m, d] requests for tuning; None samples from `vectors`.

    Raises:
        InputError: when there are no vectors, or the settings do not fit their number or width.
    """
    n, d = vectors.shape
    kind = choose_kind(config, n, d)
    if kind == "flat" and config.kind == "ivf_pq":
        console.print(f"index.kind=ivf_pq needs {_PQ_CENTROIDS} items, there are {n}: the index is exact (kind flat)")
    rng = np.random.default_rng(seed)
    index = _empty(kind, n, d, config)
    if not index.is_trained:
        lists = without_padding(index)
        n_sampled = _TRAINING_VECTORS_PER_LIST * max(lists.nlist, _PQ_CENTROIDS if kind == "ivf_pq" else 1)
        sample = np.sort(rng.choice(n, min(n, n_sampled), replace=False))
        lists.cp.seed = seed + 1
        for clustering in (lists.cp, lists.pq.cp) if kind == "ivf_pq" else (lists.cp,):
            clustering.min_points_per_centroid = 1  # faiss warns below 39, which a small catalog cannot have
        index.train(np.ascontiguousarray(vectors[sample], np.float32))
    for start in range(0, n, _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32))
    item_index = ItemIndex(kind, index, config.device)
    effort = config.ef_search if kind == "hnsw" else config.n_probe
    if effort is not None:
        item_index.set_search_parameter(min(effort, n if kind == "hnsw" else _n_lists(config, n)))
    elif kind != "flat":
        pool = vectors if queries is None else queries
        sample = pool[np.sort(rng.choice(len(pool), min(len(pool), _N_TUNING_QUERIES), replace=False))]
        tune_search(item_index, vectors, sample, config.wanted_recall)
    return item_index


def choose_kind(config: IndexConfig, n: int, d: int) -> IndexKind:
    """Chooses the kind of an index of n vectors of width d, and checks the settings.

    Raises:
        InputError: when there are no vectors, or the settings do not fit their number or width.
    """
    if n == 0:
        raise InputError("an index needs at least one vector, got none: the catalog is empty")
    if config.kind == "auto":
        return "flat" if n <= _MAX_FLAT_ITEMS else "ivf_flat"
    if config.kind == "ivf_pq" and config.pq_bytes and d % config.pq_bytes:
        divisors = ", ".join(str(k) for k in range(1, d + 1) if d % k == 0)
        raise InputError(
            f"index.pq_bytes={config.pq_bytes} must divide the vectors' width {d}: set it to one of {divisors}, or null"
        )
    if config.kind == "ivf_pq" and n < _PQ_CENTROIDS:
        return "flat"
    if config.kind in ("ivf_flat", "ivf_pq") and _n_lists(config, n) > n:
        raise InputError(f"index.n_lists={config.n_lists} is more than the {n} items: lower it")
    return config.kind


def _n_lists(config: IndexConfig, n: int) -> int:
    return config.n_lists or max(1, min(round(4 * n**0.5), n // 39 or 1))


def without_padding(index: Any) -> Any:
    """The inverted lists of an index that first pads its vectors; other indexes unchanged."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _empty(kind: IndexKind, n: int, d: int, config: IndexConfig) -> Any:
    """Returns an index without vectors."""
    if kind == "hnsw":
        index: Any = faiss.index_factory(d, f"HNSW{config.hnsw_links},Flat", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = min(config.ef_construction, max(n, 16))
        return index
    lists, n_bytes = f"IVF{_n_lists(config, n)}", config.pq_bytes or (d + 1) // 2
    padding = f"Pad{d + 1}," if config.pq_bytes is None and d % 2 else ""  # a zero dimension changes no inner product
    factories = {"flat": "Flat", "ivf_flat": f"{lists},Flat", "ivf_pq": f"{padding}{lists},PQ{n_bytes}x8np"}
    return faiss.index_factory(d, factories[kind], faiss.METRIC_INNER_PRODUCT)


def tune_search(index: ItemIndex, vectors: np.ndarray, queries: np.ndarray, min_recall: float) -> float:
    """Sets the smallest n_probe or ef_search that reaches a recall, or the largest if none does.

    Returns:
        The recall on the queries.
    """
    exact = exact_search(vectors, queries, N_RECALLED)
    low = 1 if index.kind != "hnsw" else min(N_RECALLED, len(index))
    high = without_padding(index.index).nlist if index.kind != "hnsw" else max(low, min(len(index), 4096))
    target_recall = min(1.0, min_recall + _MARGIN)
    value, recall = low, 0.0
    while True:  # doubles the value; the next loop bisects the last interval
        index.set_search_parameter(value)
        recall = recall_of(index, queries, exact)
        if recall >= target_recall or value == high:
            break
        low, value = value + 1, min(high, 2 * value)
    best, best_recall, high = value, recall, value
    while low < high and best_recall >= target_recall:
        middle = (low + high) // 2
        index.set_search_parameter(middle)
        recall = recall_of(index, queries, exact)
        if recall >= target_recall:
            high, best, best_recall = middle, middle, recall
        else:
            low = middle + 1
    index.set_search_parameter(best)
    return best_recall


def exact_search(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the [m, k] int64 indices of the best of [n, d] vectors for [m, d] queries, computed block by block."""
    k = min(k, len(vectors))
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    queries = np.ascontiguousarray(queries, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)
        scores, indices = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, indices + start)
    heap.finalize()
    return heap.I


def recall_of(index: ItemIndex, queries: np.ndarray, exact: np.ndarray) -> float:
    """Returns recall@k of the index: the share of the [m, k] exact results among its k best."""
    _, retrieved = index.search(queries, exact.shape[1])
    hits = [len(np.intersect1d(*results)) for results in zip(retrieved, exact, strict=True)]
    return float(np.sum(hits) / exact.size)


def queries_per_s(index: ItemIndex, queries: np.ndarray, k: int, n_rounds: int = 3) -> float:
    """Returns the highest rate of `n_rounds` searches for all queries."""
    times = []
    for _ in range(n_rounds):
        start = time.perf_counter()
        index.search(queries, k)
        times.append(time.perf_counter() - start)
    return len(queries) / min(times)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
