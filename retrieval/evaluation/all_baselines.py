"""All baselines that read a history."""

from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from retrieval.catalog import Catalog
from retrieval.evaluation.ease import EASE_L2, HALF_LIFE, Ease, ease_weights
from retrieval.evaluation.history_baselines import Histories, count_pairs, item_histories, item_neighbors, transitions
from retrieval.evaluation.ranks import Scores
from retrieval.sequential.windows import windows


def history_rankings(
    histories: Histories, split: Split, positives: Rows, requests: Rows, catalog: Catalog, seed: int
) -> dict[str, Scores]:
    """Builds the baselines that read a history, by name.

    Args:
        histories: reads the rows' histories.
        split: provides the rows' items.
        positives: fitting rows that are positives, the only ones that are counted.
        requests: rows to rank the items for.
        catalog: the items.
        seed: chooses the sample of many rows.
    """
    pairs = count_pairs(histories, catalog, split, positives, seed)
    weights = ease_weights(histories, catalog, split, rows_by_user(split, positives), EASE_L2, seed)
    return {
        "transitions": transitions(histories, requests, pairs, catalog.n_positives),
        "item_knn": item_neighbors(histories, requests, pairs, catalog.n_positives),
        "ease": Ease(weights, histories, requests, None),
        "ease_recent": Ease(weights, histories, requests, HALF_LIFE),
    }


def rows_by_user(split: Split, positives: Rows) -> Rows:
    """Returns the rows whose histories and items have each positive of a user once; all rows if users are unknown."""
    try:
        return windows(split, positives, item_histories(split.schema)[0])[0]
    except InputError:  # histories that are not built from the log, or keys that cannot be told apart
        return positives
