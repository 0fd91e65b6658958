"""The ranking models by name."""

from typing import Literal

from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.schema import Schema

ModelName = Literal["dcnv2"]
ModelConfig = DCNv2Config


def config_class(name: ModelName) -> type[ModelConfig]:
    """The config of a model."""
    match name:
        case "dcnv2":
            return DCNv2Config


def build_model(config: ModelConfig, schema: Schema) -> nn.Module:
    """A model with fresh weights."""
    match config:
        case DCNv2Config():
            return DCNv2(config, schema)
