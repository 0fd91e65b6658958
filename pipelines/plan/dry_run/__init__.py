"""`--dry-run` of a plan: which steps would run, and estimates of their time."""
