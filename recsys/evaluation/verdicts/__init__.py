"""Evaluates decision gates: one module for each kind of gate, and the control of the error rate over all gates."""
