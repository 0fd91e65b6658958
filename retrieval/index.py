"""An index of item vectors: exact or approximate search for the largest inner products, by FAISS.

Source: Douze et al., "The Faiss library", arXiv 2401.08281.
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
"""K of the recall@K against exact search that tunes n_probe and ef_search."""
_BLOCK = 65_536
_QUERY_BLOCK = 4096
_TRAINING_VECTORS_PER_LIST = 64
_MAX_FLAT_ITEMS = 20_000  # exact search of so few items takes microseconds
_N_TUNING_QUERIES = 1000
_MARGIN = 0.005  # recall may be slightly lower on queries that were not used for tuning


class IndexConfig(StrictModel):
    """Settings of the index."""

    kind: Literal["auto", IndexKind] = "auto"
    """auto: exact search up to 20,000 items, inverted lists above."""
    wanted_recall: float = Field(default=0.95, gt=0, le=1)
    """Minimum recall@100 against exact search; n_probe or ef_search is the smallest value that reaches it."""
    n_lists: int | None = Field(default=None, ge=1)
    """Inverted lists; null for about four times the square root of the number of items."""
    n_probe: int | None = Field(default=None, ge=1)
    """Lists searched per query; null to reach `wanted_recall`."""
    pq_bytes: int | None = Field(default=None, ge=1)
    """Bytes per vector with product quantization; null for half a byte per dimension."""
    hnsw_links: int = Field(default=32, ge=2)
    ef_construction: int = Field(default=100, ge=1)
    ef_search: int | None = Field(default=None, ge=1)
    """Size of the HNSW candidate list in a search; null to reach `wanted_recall`."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Search device; auto is the GPU if faiss supports it and has this kind of index on it."""


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
        InputError: when device is gpu and faiss finds no GPU or has no GPU index of this kind.
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
            self._search_index = faiss.index_cpu_to_gpu(self._resources, 0, index)

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
            case "ivf_flat":
                return {"n_lists": self.index.nlist, "n_probe": self.index.nprobe}
            case "ivf_pq":
                return {"n_lists": self.index.nlist, "n_probe": self.index.nprobe, "pq_bytes": self.index.pq.code_size}

    def set_search_parameter(self, value: int) -> None:
        """Sets n_probe or ef_search."""
        for index in {id(i): i for i in (self.index, self._search_index)}.values():
            if self.kind == "hnsw":
                index.hnsw.efSearch = value
            elif self.kind != "flat":
                index.nprobe = value

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
    if n == 0:
        raise InputError("an index needs at least one vector, got none: the catalog is empty")
    kind: IndexKind = config.kind if config.kind != "auto" else "flat" if n <= _MAX_FLAT_ITEMS else "ivf_flat"
    rng = np.random.default_rng(seed)
    index = _empty(kind, n, d, config)
    if not index.is_trained:
        sample = np.sort(rng.choice(n, min(n, _TRAINING_VECTORS_PER_LIST * index.nlist), replace=False))
        index.cp.seed = seed + 1
        index.train(np.ascontiguousarray(vectors[sample], np.float32))
    for start in range(0, n, _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32))
    item_index = ItemIndex(kind, index, config.device)
    effort = config.ef_search if kind == "hnsw" else config.n_probe
    if effort is not None:
        item_index.set_search_parameter(effort)
    elif kind != "flat":
        pool = vectors if queries is None else queries
        sample = pool[np.sort(rng.choice(len(pool), min(len(pool), _N_TUNING_QUERIES), replace=False))]
        tune_search(item_index, vectors, sample, config.wanted_recall)
    return item_index


def _empty(kind: IndexKind, n: int, d: int, config: IndexConfig) -> Any:
    """Returns an index without vectors."""
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


def tune_search(index: ItemIndex, vectors: np.ndarray, queries: np.ndarray, min_recall: float) -> float:
    """Sets the smallest n_probe or ef_search that reaches a recall, or the largest if none does.

    Returns:
        The recall on the queries.
    """
    exact = exact_search(vectors, queries, N_RECALLED)
    low = 1 if index.kind != "hnsw" else min(N_RECALLED, len(index))
    high = index.index.nlist if index.kind != "hnsw" else max(low, min(len(index), 4096))
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
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
