"""Coverage of the intervals of comparisons, by simulation."""
