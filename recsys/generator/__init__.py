"""Generated Toss-shaped data with known truth: see `generate`."""

from recsys.generator import columns
from recsys.generator.generate import GeneratorConfig, bayes_metrics, generate, read_bayes

__all__ = ["GeneratorConfig", "bayes_metrics", "columns", "generate", "read_bayes"]
