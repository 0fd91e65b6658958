"""Evaluation of retrieval: rankings of the catalog, their metrics and plots."""
