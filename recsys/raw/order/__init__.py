"""Rows in time: what can be ordered, histories from the log, and splits by time."""
