"""Behaviour histories: which sequences a model reads, their most recent events, and pooling of long ones."""
