"""Training speed beside plain PyTorch and other libraries."""
