"""Metrics, confidence intervals, calibration, stacking and decision gates. Imports no torch."""
