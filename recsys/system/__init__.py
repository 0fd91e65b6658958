"""System utilities: files, locks, memory, package versions, threads, processes, progress."""
