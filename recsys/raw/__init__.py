"""Raw parquet files, read as streams of checked columns."""
