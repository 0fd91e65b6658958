"""Fault injection: real machine faults during pipeline runs."""
