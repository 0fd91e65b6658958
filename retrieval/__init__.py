"""Candidate generation: user and ad towers and the index of ads."""
