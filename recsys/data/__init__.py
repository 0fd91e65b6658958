"""The prepared data set: files, rows, splits and batches."""
