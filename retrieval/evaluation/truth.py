"""The ranking by the generator's true preferences, popularity of the day x affinity: an upper bound for models.

Shapes: I items of the catalog; n requests, b requests of a block.
"""

import numpy as np

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.synthetic.generate import GeneratorConfig
from recsys.synthetic.preferences import true_log_preferences
from retrieval.catalog import Catalog


class TruePreferences:
    """Scores all items for training requests of generated data by the true preferences.

    Args:
        config: the config of the generator.
        row_in_split: [n] row numbers of the requests in the training file.
        catalog: the items.
    """

    def __init__(self, config: GeneratorConfig, row_in_split: np.ndarray, catalog: Catalog) -> None:
        self._config, self._row_in_split = config, row_in_split
        self._ad_indices = np.asarray(catalog.names.cast("int64")) - 1

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        return true_log_preferences(self._config, "train", self._row_in_split[requests])[:, self._ad_indices]


def true_preferences(dataset: PreparedDataset, requests: Rows, catalog: Catalog) -> TruePreferences | None:
    """Returns the true ranking for requests of training rows; None if the data was not generated."""
    if dataset.generator is None:
        return None
    config = GeneratorConfig.model_validate(dataset.generator)
    row_in_split = np.asarray(dataset.store.row_ids(requests.numbers()).cast("int64"))
    return TruePreferences(config, row_in_split, catalog)
