"""Generated data in the format of the Toss data set, with known click probabilities: see `generate`."""

from recsys.synthetic import columns
from recsys.synthetic.generate import GeneratorConfig, bayes_metrics, generate, read_bayes
from recsys.synthetic.preferences import ad_catalog, true_log_preferences, user_interests

__all__ = [
    "GeneratorConfig",
    "ad_catalog",
    "bayes_metrics",
    "columns",
    "generate",
    "read_bayes",
    "true_log_preferences",
    "user_interests",
]
