"""Candidate generation: user and item towers, and an index of item vectors."""
