"""Latency of requests to an exported bundle beside that of a run, and load of the server."""
