"""The paired bootstrap: what is drawn, metrics under drawn weights, and intervals from the replicates."""
