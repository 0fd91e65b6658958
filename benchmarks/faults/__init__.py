"""Faults of the machine, brought about for real."""
