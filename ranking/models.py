"""The ranking models by name."""

from typing import Literal

from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from ranking.din import DIN, DINConfig
from ranking.ft_transformer import FTTransformer, FTTransformerConfig
from ranking.xdeepfm import XDeepFM, XDeepFMConfig
from recsys.schema import Schema

ModelName = Literal["dcnv2", "xdeepfm", "ft_transformer", "din"]
ModelConfig = DCNv2Config | XDeepFMConfig | FTTransformerConfig | DINConfig


def config_class(name: ModelName) -> type[ModelConfig]:
    """The config of a model."""
    match name:
        case "dcnv2":
            return DCNv2Config
        case "xdeepfm":
            return XDeepFMConfig
        case "ft_transformer":
            return FTTransformerConfig
        case "din":
            return DINConfig


def build_model(config: ModelConfig, schema: Schema) -> nn.Module:
    """A model with fresh weights."""
    match config:
        case DCNv2Config():
            return DCNv2(config, schema)
        case XDeepFMConfig():
            return XDeepFM(config, schema)
        case FTTransformerConfig():
            return FTTransformer(config, schema)
        case DINConfig():
            return DIN(config, schema)
