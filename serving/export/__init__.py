"""Writes a bundle from a finished run."""
