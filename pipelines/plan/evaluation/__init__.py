"""Evaluates the gates of a plan on its finished runs."""
