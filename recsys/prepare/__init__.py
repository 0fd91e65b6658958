"""Raw parquet to a prepared data set: a scan of labels and splits, then a fitting and an encoding pass."""
