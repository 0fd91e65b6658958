"""The features of each tower, and the checks that a schema suits two towers."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import InputError
from recsys.schema.config import TowerName
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class TowerFeatures:
    """The features of one or more towers, by kind."""

    categorical: tuple[str, ...]
    tokens: tuple[str, ...]
    """Token sequences."""
    vectors: tuple[str, ...]
    dense: tuple[int, ...]
    """Column numbers of `Batch.dense`: numeric columns that are no components of vectors, and missing indicators."""
    steps: dict[str, int]
    """Widths of the groups of columns that are not numeric features: dense inputs."""

    @property
    def width(self) -> int:
        """Number of dense inputs."""
        return len(self.dense) + sum(self.steps.values())


def tower_features(schema: Schema, towers: Sequence[TowerName]) -> TowerFeatures:
    """Groups the features of one or more towers by kind."""
    names = {name for tower in towers for name in schema.towers.get(tower, ())}
    numeric = set(schema.numeric)
    vectors = [vector for vector in schema.vectors if vector.name in names]
    # a missing indicator belongs to the tower of its first column
    first_columns = [columns[0] for columns in schema.missing_indicators]
    owners = names | {vector.columns[0] for vector in vectors}
    dense = [index for index, column in enumerate(schema.numeric) if column in names]
    dense += [index for index, column in enumerate(first_columns, len(schema.numeric)) if column in owners]
    return TowerFeatures(
        categorical=tuple(name for name in schema.categorical if name in names),
        tokens=tuple(s.name for s in schema.token_sequences if s.name in names),
        vectors=tuple(vector.name for vector in vectors),
        dense=tuple(dense),
        steps={
            s.name: len(s.columns)
            for s in schema.column_sequences
            if s.name in names and not numeric.issuperset(s.columns)
        },
    )


def check_target(schema: Schema, request: TowerFeatures) -> str:
    """Returns the item's column.

    Raises:
        InputError: when the schema has no target item in the item tower, or no features of the user.
    """
    target = schema.target_item
    if target is None:
        raise InputError("retrieval needs schema.target_item: name the item's column")
    if target not in schema.towers.get("item", ()):
        raise InputError(f"retrieval needs {target!r}, the target item, in schema.towers.item: add it")
    if not (request.categorical or request.tokens or request.vectors or request.width):
        raise InputError("retrieval needs features of the user in schema.towers.user: name some columns")
    return target


def causal_sequence(schema: Schema, request: TowerFeatures) -> str:
    """Returns the one user sequence of target items.

    Raises:
        InputError: when the user tower has none, or more than one.
    """
    item_sequences = [
        s.name for s in schema.token_sequences if s.name in request.tokens and s.vocabulary == schema.target_item
    ]
    if len(item_sequences) != 1:
        raise InputError(
            f"model.pooling=causal needs one sequence of towers.user that shares the table of {schema.target_item!r}, "
            f"got {', '.join(item_sequences) or 'none'}: name one in schema.towers.user"
        )
    return item_sequences[0]
