"""The prepared data set: its files, rows, splits and batches."""
