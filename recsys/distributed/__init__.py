"""Sharding and fused optimizers of embedding tables."""
