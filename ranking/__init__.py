"""Ranking models, one file each: `forward(batch)` returns [B] logits."""
