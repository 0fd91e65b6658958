"""The partition of the rows: columns that decide it, clusters that stay together, folds, windows and groups."""
