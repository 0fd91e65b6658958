"""Generated Toss-shaped data with known truth: see `generate`."""

from recsys.generator.generate import GeneratorConfig, bayes_metrics, generate, read_bayes

__all__ = ["GeneratorConfig", "bayes_metrics", "generate", "read_bayes"]
