"""Ranking models: one file each, `forward(batch) -> logits [B]`."""
