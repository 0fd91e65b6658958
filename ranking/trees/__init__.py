"""Gradient-boosted trees of several libraries, which grow on the same rows by the same rules."""
