"""The base classes of the configs of deep ranking models."""

import math
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from recsys import defaults
from recsys.config import StrictModel
from recsys.defaults import AUTO, Auto, DataSize, filled
from recsys.errors import InputError
from recsys.nn.numeric import NumericEmbeddings

Width = Annotated[int, Field(ge=1)]
"""Width of a layer."""
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
"""Widths of one layer or more."""


Role = Literal["sequences", "target_item"]
"""A key of the schema that a model may need."""
_MEANINGS: dict[Role, str] = {
    "sequences": "the behaviours that it attends to",
    "target_item": "the column of the candidate item",
}


class DeepModelConfig(StrictModel):
    """Hyperparameters of a deep model.

    A subclass declares `name: Literal["NAME"] = "NAME"`, the name of the model in `--model` and in run folders.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    min_epochs: ClassVar[int] = 1
    """Bound of the default number of epochs for this kind of model."""

    name: str

    @property
    def max_learning_rate(self) -> float:
        """Upper bound of the default learning rate for a model with these settings."""
        return math.inf

    @property
    def min_learning_rate(self) -> float:
        """Lower bound of the default learning rate for batches of the default size."""
        return 0.0

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size; the base class has none."""
        return self

    def missing_roles(self, sequences: Collection[str], target_item: str | None) -> tuple[Role, ...]:
        """The roles that the model needs and a schema does not have.

        Args:
            sequences: the sequences of the schema.
            target_item: its target item.
        """
        return ()

    def check_roles(self, sequences: Collection[str], target_item: str | None) -> None:
        """Raises InputError if a schema lacks a role that the model needs; see `missing_roles`."""
        if missing := self.missing_roles(sequences, target_item):
            names = " and ".join(f"schema.{role} ({_MEANINGS[role]})" for role in missing)
            raise InputError(f"{self.name} needs {names}, not set: add it to the config, or choose another model")


class LinearPartConfig(DeepModelConfig):
    """Hyperparameters of a deep model that may have a linear part."""

    linear_part: Auto[bool] = AUTO
    """Mixes the logit with that of a logistic regression on ids and dense columns, which is fitted before the training
    with a penalty for each feature that the rows determine. Early stopping chooses the share with the epoch; without
    it, and with the focal loss, the share is zero."""

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size."""
        return filled(self, self.values_for(size))

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """What `auto` stands for with data of this size, by name of a setting."""
        return {"linear_part": defaults.linear_part(size)}


class NumericEmbeddingsConfig(LinearPartConfig):
    """Hyperparameters of a deep model that concatenates the embeddings of numeric columns with those of ids."""

    embedding_dim: int
    numeric_embeddings: NumericEmbeddings = "none"
    """How numeric columns enter. none: as they are; linear: times a vector each; periodic: a linear map of sines and
    cosines with learned frequencies; piecewise_linear: a linear map of the shares of 16 bins of equal probability;
    quantized: a vector of each bin."""
    numeric_embedding_dim: int | None = Field(default=None, ge=1)
    """Width of the embedding of a numeric column; null for embedding_dim."""

    @model_validator(mode="after")
    def _check_numeric_embeddings(self) -> Self:
        if self.numeric_embedding_dim is not None and self.numeric_embeddings == "none":
            raise ValueError("numeric_embedding_dim needs numeric_embeddings, got none: choose one, or remove it")
        return self

    @property
    def d_numeric(self) -> int:
        """Width of what a numeric column becomes."""
        return 1 if self.numeric_embeddings == "none" else self.numeric_embedding_dim or self.embedding_dim


class BehavioursConfig(LinearPartConfig):
    """Hyperparameters of a deep model that relates behaviours, event by event, to the target item."""

    behaviours: tuple[str, ...] | None = None
    """The sequences to attend to; null for all sequences of the schema."""
    target_with: tuple[str, ...] = ()
    """Categorical features, such as campaign or brand, whose embeddings are added to the target's for the attention.
    They help rare items, whose own embeddings have few samples."""
    max_events: int | None = Field(default=None, ge=1)
    """Events of each token sequence that attention reads: the last ones; null for all."""
    long_pooling: Literal["none", "sdim"] = "none"
    """Pools all events of each token sequence at linear cost, whatever max_events. sdim: those that share hash
    signatures with the target."""
    n_hashes: int = Field(default=48, ge=1)
    """Hashes of an event, for long_pooling."""
    hash_width: int = Field(default=3, ge=1, le=20)
    """Hashes of a signature: with more of them fewer events, more similar to the target, share it."""

    def missing_roles(self, sequences: Collection[str], target_item: str | None) -> tuple[Role, ...]:
        """See `DeepModelConfig`."""
        is_missing: dict[Role, bool] = {"sequences": not sequences, "target_item": target_item is None}
        return tuple(role for role, missing in is_missing.items() if missing)

    @model_validator(mode="after")
    def _check_behaviours(self) -> Self:
        if self.behaviours == ():
            raise ValueError(
                f"behaviours is empty, and {self.name} attends to behaviours: name a sequence, or set null"
            )
        if self.n_hashes % self.hash_width:
            raise ValueError(f"hash_width must divide n_hashes, got {self.hash_width} and {self.n_hashes}")
        return self
