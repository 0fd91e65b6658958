"""Token sequences in columns: delimited text, and statistics of whole sequences."""
