"""What a retrieval benchmark may ask of the generator: the ads, the users' interests, and who would be shown what."""

from typing import Literal

import numpy as np

from recsys.synthetic.ads import AdCatalog, make_ad_catalog
from recsys.synthetic.draws import Draws
from recsys.synthetic.generate import GeneratorConfig

Split = Literal["train", "test"]


def ad_catalog(config: GeneratorConfig) -> AdCatalog:
    """All ads of a config: ad set a is `l_feat_14` = a + 1, seen or not."""
    return make_ad_catalog(Draws(config.seed))


def user_interests(config: GeneratorConfig, split: Split, row: np.ndarray) -> np.ndarray:
    """[n, 8] u of the users of [n] rows of a split."""
    return config.impression_maker(split).users(row).interest


def true_log_preferences(config: GeneratorConfig, split: Split, row: np.ndarray) -> np.ndarray:
    """[n, A] ln(popularity of the row's day) + u . v, by which the ad sets of [n] rows were drawn.

    Minus infinity where an ad set is not active. An additive constant a row is left out. The generator samples from
    this by resampling a few candidates, which comes near it but is not the same.
    """
    maker = config.impression_maker(split)
    with np.errstate(divide="ignore"):
        log_popularity = np.log(maker.ads.popularity)
    return log_popularity[maker.days(row)] + maker.users(row).interest @ maker.ads.vector.T
