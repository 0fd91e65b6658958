"""Default training beside plain baselines, on many data sets and sizes."""
