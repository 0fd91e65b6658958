"""Raw files: parquet, and CSV or TSV."""
