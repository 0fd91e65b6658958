"""The ranking by what the generator knows: popularity of the day x affinity, which no model can beat but by chance."""

import numpy as np

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.synthetic.generate import GeneratorConfig
from recsys.synthetic.preferences import true_log_preferences
from retrieval.catalog import Catalog


class TruePreferences:
    """The scores of all items for training requests of generated data.

    Args:
        config: what the data was generated from.
        row_in_split: [n] the requests' row numbers in the training file.
        catalog: the items.
    """

    def __init__(self, config: GeneratorConfig, row_in_split: np.ndarray, catalog: Catalog) -> None:
        self._config, self._row_in_split = config, row_in_split
        self._ad_set = np.asarray(catalog.names.cast("int64")) - 1

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return true_log_preferences(self._config, "train", self._row_in_split[places])[:, self._ad_set]


def true_preferences(dataset: PreparedDataset, requests: Rows, catalog: Catalog) -> TruePreferences | None:
    """The true ranking of requests from the training rows; None where the data was not generated."""
    if dataset.generator is None:
        return None
    config = GeneratorConfig.model_validate(dataset.generator)
    row_in_split = np.asarray(dataset.store.row_ids(requests.numbers()).cast("int64"))
    return TruePreferences(config, row_in_split, catalog)
