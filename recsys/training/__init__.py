"""Training: losses, optimizers, schedule, precision and the loop."""
