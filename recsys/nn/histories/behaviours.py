"""The behaviour sequences and the target item that a model reads, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import InputError
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class Behaviours:
    """The behaviour sequences of a model."""

    names: tuple[str, ...]
    """Token sequences, and groups of columns read as steps."""
    n_steps: dict[str, int]
    """Columns of each group of columns of the schema."""
    max_lengths: dict[str, int]
    """Most events of each sequence of the schema."""

    @property
    def tokens(self) -> list[str]:
        """Names of the token sequences."""
        return [name for name in self.names if name not in self.n_steps]


def behaviours_of(schema: Schema, names: Sequence[str] | None) -> Behaviours:
    """The sequences with some names; None for all sequences of a schema.

    Raises:
        InputError: for the name of no sequence.
    """
    n_steps = {feature.name: len(feature.columns) for feature in schema.column_sequences}
    all_names = [*(s.name for s in schema.token_sequences), *n_steps]
    if unknown := [name for name in names or () if name not in all_names]:
        raise InputError(f"model.behaviours: {unknown[0]!r} is not a sequence: the schema has {', '.join(all_names)}")
    max_lengths = n_steps | {s.name: s.max_length for s in schema.token_sequences}
    return Behaviours(tuple(all_names if names is None else names), n_steps, max_lengths)


def target_features(schema: Schema, target_with: Sequence[str]) -> tuple[str, ...]:
    """The target item of a schema, then the categorical features whose embeddings are added to its own.

    Raises:
        InputError: for the target itself, or a feature that is not categorical.
    """
    target = schema.target_item
    assert target is not None
    if unknown := [name for name in target_with if name not in schema.categorical or name == target]:
        raise InputError(f"model.target_with: {unknown[0]!r} must be a categorical feature other than {target!r}")
    return (target, *target_with)
