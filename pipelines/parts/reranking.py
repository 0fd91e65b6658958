"""Reranks retrieved candidates with a finished ranking run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.rerank import Reranker
from ranking.scoring import RunData, find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.data.layout import SCHEMA_FILE
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.config import read_run_section
from recsys.runs.folder import RunFolder
from recsys.system.world import World
from retrieval.candidates import CANDIDATES_FILE
from retrieval.catalog import Catalog
from retrieval.evaluation.ranks import CandidateRanks, ranks_among

RERANKED_FILE = "reranked.parquet"


def check_reranker(reranker: Path, split: str, dataset: PreparedDataset, world: World) -> None:
    """Rejects a ranking run that may have been trained on the evaluation rows, or whose data is missing.

    Raises:
        InputError: when it is not a finished ranking run, was fitted on another split, or its data is missing.
    """
    if world.size > 1:
        raise InputError("--reranker scores in one process: start the command without torchrun")
    run_data, _ = _data_of(reranker, dataset)
    for run in run_data.members.values() or [reranker]:
        splits = read_run_section(run).splits
        if splits != (split,):
            raise InputError(
                f"{run} was fitted on {', '.join(splits) or 'nothing'}, but --reranker needs a run fitted on {split}: "
                "it must not have seen the evaluation rows"
            )


def _data_of(reranker: Path, dataset: PreparedDataset) -> tuple[RunData, PreparedDataset]:
    """The data set of a ranking run: the given one if it is the same, else the folder that the run recorded."""
    run_data = find_run_data(reranker)
    recorded = read_run_section(next(iter(run_data.members.values()), reranker)).data
    if recorded is not None and recorded.fingerprint == dataset.manifest.fingerprint:
        return run_data, dataset
    if not (run_data.folder / SCHEMA_FILE).is_file():
        raise InputError(
            f"{run_data.folder}, the prepared data of {reranker}, is missing: move it back, or pass it with --data"
        )
    return run_data, PreparedDataset.open(run_data.folder)


def rerank(
    run: RunFolder,
    reranker: Path,
    dataset: PreparedDataset,
    split: Split,
    requests: Rows,
    catalog: Catalog,
    target: np.ndarray,
    world: World,
) -> CandidateRanks:
    """Orders the candidates by a ranking model (`reranked`), and by both scores together (`reranked_jointly`).

    The joint score is the towers' logit + ln p of the ranking model. If the towers are trained on all impressions,
    their logit is that of an item being shown and clicked among all items, up to a constant per request.
    """
    run_data, reranker_dataset = _data_of(reranker, dataset)
    # uncalibrated: the steps of an isotonic calibration are ties in float32
    scorer = load_scorer(reranker, run_data, reranker_dataset, world, is_calibrated=False)
    Reranker(scorer, reranker_dataset).rerank(run.file(CANDIDATES_FILE), run.file(RERANKED_FILE))
    table = pq.read_table(run.file(RERANKED_FILE)).combine_chunks()
    ids = pc.cast(split.store.row_ids(requests.numbers()), pa.string())
    request_indices = pc.index_in(table["row_id"], value_set=ids).to_numpy()
    item_indices = pc.index_in(table["item"], value_set=catalog.names).to_numpy()
    logit = table["logit"].to_numpy().astype(np.float64)
    scores = {"reranked": logit, "reranked_jointly": table["score"].to_numpy() - np.logaddexp(0, -logit)}
    ranks = {name: ranks_among(request_indices, item_indices, score, target) for name, score in scores.items()}
    return CandidateRanks(ranks_among(request_indices, item_indices, -table["rank"].to_numpy(), target), ranks)
