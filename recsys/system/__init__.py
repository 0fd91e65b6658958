"""Nothing of the field: files, locks, threads, processes, progress."""
