"""The run folder: files that an experiment writes, and functions that read them."""
