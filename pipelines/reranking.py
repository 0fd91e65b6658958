"""The step after retrieval: a finished ranking run puts the candidates in its own order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.rerank import Reranker
from ranking.scoring import find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import read_metrics
from recsys.system.world import World
from retrieval.candidates import CANDIDATES_FILE
from retrieval.catalog import Catalog
from retrieval.evaluation.ranks import measure_ranks, ranks_among
from retrieval.evaluation.summary import Figures

RERANKED_FILE = "reranked.parquet"


def check_reranker(reranker: Path, split: str, world: World) -> None:
    """Refuses a ranking run that may have seen the rows that are judged here.

    Raises:
        InputError: when it is no finished ranking run, or one of another split.
    """
    if world.size > 1:
        raise InputError("--reranker scores in one process: give the command without torchrun")
    found = find_run_data(reranker)
    for run in found.members.values() or [reranker]:
        fitted = read_metrics(run).train.fits
        if list(fitted) != [split]:
            raise InputError(
                f"{run} was fitted on {', '.join(fitted) or 'nothing'}, and reranking needs a run of {split}: the rows "
                "that are judged must be new to it"
            )


def rerank(
    run: RunFolder,
    reranker: Path,
    split: Split,
    requests: Rows,
    catalog: Catalog,
    target: np.ndarray,
    world: World,
) -> dict[str, Figures]:
    """The figures of candidates in the order of a ranking model, and in that of both scores together.

    The towers' logit is that of being shown and clicked among all items, up to a constant a request, where they learn
    from all that was shown: ln of the click probability adds what the ranking model knows.
    """
    data = find_run_data(reranker)
    theirs = PreparedDataset.open(data.folder)
    Reranker(load_scorer(reranker, data, theirs, world), theirs).rerank(
        run.file(CANDIDATES_FILE), run.file(RERANKED_FILE)
    )
    table = pq.read_table(run.file(RERANKED_FILE)).combine_chunks()
    ids = pc.cast(split.store.row_ids(requests.numbers()), pa.string())
    request = pc.index_in(table["row_id"], value_set=ids).to_numpy()
    entry = pc.index_in(table["item"], value_set=catalog.names).to_numpy()
    logit = table["logit"].to_numpy().astype(np.float64)
    scores = {"reranked": logit, "reranked_jointly": table["score"].to_numpy() - np.logaddexp(0, -logit)}
    return {name: measure_ranks(ranks_among(request, entry, score, target)) for name, score in scores.items()}
