"""One update of the weights: gradients of a batch, optimizers, averages."""
