"""Metrics, intervals, calibration, stacking and decision gates; no torch."""
