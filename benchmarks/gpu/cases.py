"""The models and batch sizes of the GPU benchmark."""

from enum import StrEnum
from typing import Any

from benchmarks.gpu.rates import Case
from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.xdeepfm import XDeepFMConfig
from retrieval.two_tower import TwoTowerConfig

COMPILED: dict[str, Any] = {"compile": "on"}
UNCOMPILED: dict[str, Any] = {"compile": "off"}
ALL_FUSED: dict[str, Any] = {"compile": "on", "embeddings": {"fused_from_rows": 1, "l2": 0.0}}
ALL_ITEMS: dict[str, Any] = {"loss": {"full_catalog": True}}
HIDDEN = (256, 128, 64)
DCNV2 = DCNv2Config(hidden_dims=HIDDEN)
XDEEPFM = XDeepFMConfig(cin_dims=(128, 128), hidden_dims=HIDDEN)
FT_TRANSFORMER = FTTransformerConfig(d_model=256, n_layers=4, n_heads=8, numeric_tokens="fourier", readout="cls")
SMALL_FT_TRANSFORMER = FT_TRANSFORMER.model_copy(update={"d_model": 16, "n_layers": 1, "n_heads": 2})
NVIDIA = DCNv2Config(embedding_dim=128, cross_depth=3, cross_rank=512, hidden_dims=(1024, 1024, 512, 256))
"""NVIDIA's DCN V2 for Criteo, with 26 tables."""


class Name(StrEnum):
    """What to measure."""

    DCNV2 = "dcnv2"
    XDEEPFM = "xdeepfm"
    DIN = "din"
    FT_TRANSFORMER = "ft_transformer"
    TWO_TOWER = "two_tower"
    NVIDIA = "nvidia"
    PLAIN = "plain"
    PARITY = "parity"


def cases(is_small: bool) -> dict[Name, list[Case]]:
    """The models and batch sizes, by name; small ones rehearse the same code in a minute on a CPU."""
    if is_small:
        small_nvidia = NVIDIA.model_copy(update={"embedding_dim": 16, "cross_rank": 16, "hidden_dims": (64, 32)})
        return {
            Name.DCNV2: [Case(DCNV2, 1024, COMPILED)],
            Name.XDEEPFM: [Case(XDEEPFM.model_copy(update={"cin_dims": (16, 16)}), 1024, UNCOMPILED)],
            Name.DIN: [Case(DINConfig(), 1024, UNCOMPILED)],
            Name.FT_TRANSFORMER: [Case(SMALL_FT_TRANSFORMER, 1024, UNCOMPILED)],
            Name.TWO_TOWER: [Case(TwoTowerConfig(), 1024, ALL_ITEMS)],
            Name.NVIDIA: [Case(small_nvidia, 1024, ALL_FUSED | UNCOMPILED)],
        }
    return {
        Name.DCNV2: [Case(DCNV2, size, COMPILED) for size in (65_536, 16_384)] + [Case(DCNV2, 65_536, UNCOMPILED)],
        Name.XDEEPFM: [Case(XDEEPFM, 65_536, COMPILED)],
        Name.DIN: [Case(DINConfig(), 65_536, UNCOMPILED), Case(DINConfig(), 65_536, COMPILED)],
        Name.FT_TRANSFORMER: [Case(FT_TRANSFORMER, 8192, COMPILED)],
        Name.TWO_TOWER: [
            Case(TwoTowerConfig(), 65_536, ALL_ITEMS),
            Case(TwoTowerConfig(), 65_536, ALL_ITEMS | COMPILED),
        ],
        Name.NVIDIA: [Case(NVIDIA, 65_536, ALL_FUSED)],
    }
