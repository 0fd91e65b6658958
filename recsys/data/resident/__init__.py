"""Rows as tensors on the device of the model; batches are gathered and encoded there."""
