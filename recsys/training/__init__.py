"""Training: losses, optimizers, learning rate schedule, precision, checkpoints and the training loop."""
