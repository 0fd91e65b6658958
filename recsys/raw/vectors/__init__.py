"""Vector columns of raw files."""
