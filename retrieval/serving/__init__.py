"""A finished retrieval run in use: candidates for any requests, with other items than those of the run."""
