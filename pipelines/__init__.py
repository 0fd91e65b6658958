"""Command-line pipelines, each run as `python -m pipelines.NAME`."""
