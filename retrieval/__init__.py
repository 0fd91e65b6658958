"""Candidate generation: user and item towers and the index of items."""
