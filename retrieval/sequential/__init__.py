"""Encoders of a user's history in which each step is trained to predict the next item."""
