"""Prepares a data set from raw parquet files: a scan of labels and splits, a fitting pass and an encoding pass."""
