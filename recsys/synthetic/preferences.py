"""Ground truth for retrieval benchmarks: the ads, user interests and true preferences.

Shapes: I ad sets (the items of the catalog).
"""

from typing import Literal

import numpy as np

from recsys.synthetic.ads import AdCatalog, make_ad_catalog
from recsys.synthetic.draws import Draws
from recsys.synthetic.generate import GeneratorConfig

Split = Literal["train", "test"]


def ad_catalog(config: GeneratorConfig) -> AdCatalog:
    """Returns all ads of a config; ad set i has `l_feat_14` = i + 1. Some ad sets may not occur in the data."""
    return make_ad_catalog(Draws(config.seed))


def user_interests(config: GeneratorConfig, split: Split, row: np.ndarray) -> np.ndarray:
    """[n, 8] interests u of the users of [n] rows of a split."""
    return config.impression_generator(split).users(row).interest


def true_log_preferences(config: GeneratorConfig, split: Split, row: np.ndarray) -> np.ndarray:
    """[n, I] ln(popularity on the row's day) + u . v: log weights of the ad sets of [n] rows, up to a constant per row.

    Minus infinity where an ad set is not active. The generator draws ad sets by resampling a few candidates, so that
    their distribution is close to these weights but not equal.
    """
    maker = config.impression_generator(split)
    with np.errstate(divide="ignore"):
        log_popularity = np.log(maker.ads.popularity)
    return log_popularity[maker.days(row)] + maker.users(row).interest @ maker.ads.vector.T
