"""How much of the generated clicks can be learned from a number of rows: `python -m benchmarks.bound`."""
