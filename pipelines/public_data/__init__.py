"""Public data sets: from the files as downloaded to the parquet files that the configs read."""
