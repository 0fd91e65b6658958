"""Hyperparameters of sequential encoders."""

from typing import Literal

from pydantic import Field

from recsys.config import StrictModel

LayerKind = Literal["sasrec", "ligr", "hstu"]


class SequentialConfig(StrictModel):
    """Hyperparameters of `SequentialEncoder`; the defaults are those of eSASRec."""

    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=1, ge=1)
    ffn_factor: int = Field(default=4, ge=1)
    """Width of the feed-forward layers, as a multiple of the embedding width; hstu has none."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
