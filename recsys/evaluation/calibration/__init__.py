"""Calibration after training: kinds, their fits, the choice of one, and cross-fitted predictions."""
