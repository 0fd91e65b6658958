"""The roles of columns."""
