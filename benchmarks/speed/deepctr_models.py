"""DeepCTR-Torch's models for the speed contest. Needs `pip install -e '.[peers]'`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DCN, DIN, xDeepFM

from benchmarks.speed.contest import Arrays
from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.model_config import DeepModelConfig
from ranking.xdeepfm import XDeepFMConfig
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class Peer:
    """A DeepCTR-Torch model, and the function that builds its inputs."""

    model: Any
    inputs: Callable[[Arrays], dict[str, np.ndarray]]


def build_peer(config: DeepModelConfig, schema: Schema, seed: int) -> Peer:
    """Builds DeepCTR-Torch's counterpart of one of our models.

    Raises:
        ValueError: if DeepCTR-Torch has no counterpart.
    """
    if not isinstance(config, DCNv2Config | XDeepFMConfig | DINConfig):
        raise ValueError(f"DeepCTR-Torch has no counterpart of {config.name}: use dcnv2, xdeepfm or din")
    sizes = {"dnn_hidden_units": config.hidden_dims, "dnn_dropout": config.dropout, "seed": seed}
    match config:
        case DCNv2Config():
            columns, inputs = _pooled(schema, config.embedding_dim, config.pool_sequences)
            sizes |= {"cross_num": config.cross_depth, "cross_parameterization": "matrix"}
            return Peer(DCN([], columns, **sizes), inputs)
        case XDeepFMConfig():
            columns, inputs = _pooled(schema, config.embedding_dim, config.pool_sequences)
            activation = "linear" if config.cin_activation == "identity" else config.cin_activation
            sizes |= {"cin_layer_size": config.cin_dims, "cin_split_half": config.cin_split_half}
            return Peer(xDeepFM(columns, columns, cin_activation=activation, **sizes), inputs)
        case DINConfig():
            return _din(config, schema, sizes)


def _pooled(schema: Schema, dim: int, pools: bool) -> tuple[list[Any], Callable[[Arrays], dict[str, np.ndarray]]]:
    """Columns and inputs of all features; token sequences are mean-pooled."""
    sizes, sequences = schema.num_embeddings, schema.token_sequences if pools else ()
    columns = [SparseFeat(name, sizes[name], dim) for name in schema.categorical]
    for sequence in sequences:
        feature = SparseFeat(sequence.name, sizes[sequence.vocabulary] + 1, dim)
        columns.append(VarLenSparseFeat(feature, maxlen=sequence.max_length, combiner="mean"))
    columns += [DenseFeat(name, 1) for name in schema.dense]

    def inputs(arrays: Arrays) -> dict[str, np.ndarray]:
        return _single_valued(arrays, schema) | {s.name: arrays.sequences[2 * k] for k, s in enumerate(sequences)}

    return columns, inputs


def _din(config: DINConfig, schema: Schema, sizes: dict[str, Any]) -> Peer:
    """Builds DeepCTR-Torch's DIN: reads only the first token sequence, with the target item's embedding table."""
    target, sequence, dim = schema.target_item, schema.token_sequences[0], config.embedding_dim
    n_ids = {name: schema.num_embeddings[name] for name in schema.categorical}
    n_ids[str(target)] = 1 + max(n_ids[str(target)], schema.num_embeddings[sequence.vocabulary])
    columns = [SparseFeat(name, n, dim) for name, n in n_ids.items()]
    events = SparseFeat(f"hist_{target}", n_ids[str(target)], dim, embedding_name=target)
    columns.append(VarLenSparseFeat(events, maxlen=sequence.max_length, length_name="n_events"))
    columns += [DenseFeat(name, 1) for name in schema.dense]
    activation = {"dice": "Dice", "prelu": "prelu", "relu": "relu"}[config.activation]
    dnn_activation = "prelu" if activation == "Dice" else activation  # its Dice works only on sequences
    sizes |= {"att_hidden_size": config.attention_dims, "att_activation": activation, "dnn_activation": dnn_activation}

    def inputs(arrays: Arrays) -> dict[str, np.ndarray]:
        n_events = (arrays.sequences[0] > 0).sum(axis=1)
        return _single_valued(arrays, schema) | {f"hist_{target}": arrays.sequences[0], "n_events": n_events}

    return Peer(DIN(columns, [target], **sizes), inputs)


def _single_valued(arrays: Arrays, schema: Schema) -> dict[str, np.ndarray]:
    categorical = {name: arrays.ids[:, number] for number, name in enumerate(schema.categorical)}
    return categorical | {name: arrays.dense[:, number] for number, name in enumerate(schema.dense)}
