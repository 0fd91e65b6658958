"""The run folder: what an experiment leaves, and what reads it back."""
