"""Reads raw parquet files as streams of validated columns."""
