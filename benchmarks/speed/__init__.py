"""Training speed of this project, plain PyTorch and other libraries."""
