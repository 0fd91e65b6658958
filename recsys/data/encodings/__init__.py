"""Encodings from counts: how often a value occurs, and how often its rows are clicked, as numeric features."""
