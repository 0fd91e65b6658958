"""What a model tells the trainer about itself, besides its forward pass: one protocol for each attribute.

`sequences` is required; a model without one of the other attributes is trained without what it stands for.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.errors import InputError


@runtime_checkable
class ReadsSequences(Protocol):
    """Names the sequence features that it reads: batches hold no others."""

    sequences: tuple[str, ...]


@runtime_checkable
class HasAuxiliaryLoss(Protocol):
    """Adds a loss of each row to that of its click, with a weight."""

    auxiliary_weight: float
    """0 for none."""

    def with_auxiliary(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the [B] logits and the [B] auxiliary losses."""
        ...


@runtime_checkable
class HasBranches(Protocol):
    """Has parallel branches, the mean of whose logits is the model's logit, and which may have losses of their own."""

    branches: tuple[str, ...]
    """Their names; fewer than two for a model without parallel branches."""

    def with_branches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the [B] logits, and the [K, B] logits of the K branches."""
        ...


@runtime_checkable
class HasMembers(Protocol):
    """Has members, each trained by a loss of its own; the model's logit is that of their mean probability."""

    def member_logits(self, batch: Batch) -> Tensor:
        """Returns the [K, B] logits of the K members."""
        ...


@runtime_checkable
class HasFixedShapes(Protocol):
    """Says whether only the number of rows determines the shapes of its forward pass after its look-ups.

    Such a model is compiled where that is worthwhile, and its steps are recorded as CUDA graphs. It reads no ids but
    those of its look-ups.
    """

    fixed_shapes: bool


@runtime_checkable
class HasDynamicShapes(Protocol):
    """Says whether shapes that vary with the events of a batch may be compiled: so it is where that is worthwhile."""

    dynamic_shapes: bool


@runtime_checkable
class HasNoDecay(Protocol):
    """Says whether AdamW's weight decay leaves out the parameters of a module, inside a model."""

    no_decay: bool


def sequences_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the sequence features that a model reads.

    Raises:
        InputError: if the model does not name them.
    """
    if not isinstance(model, ReadsSequences):
        raise InputError(f"{type(model).__name__} has no attribute sequences: set it to (), or to the names it reads")
    return tuple(model.sequences)


def auxiliary_weight_of(model: nn.Module) -> float:
    """The weight of a model's auxiliary loss; 0 if it has none."""
    return model.auxiliary_weight if isinstance(model, HasAuxiliaryLoss) else 0.0


def branches_of(model: nn.Module) -> tuple[str, ...]:
    """The names of a model's parallel branches; () if it has none."""
    return model.branches if isinstance(model, HasBranches) and len(model.branches) > 1 else ()


def has_fixed_shapes(model: nn.Module) -> bool:
    """Whether only the number of rows determines the shapes of a model's forward pass after its look-ups."""
    return isinstance(model, HasFixedShapes) and model.fixed_shapes


def is_compiled_by_default(model: nn.Module) -> bool:
    """Whether a model is compiled where that is worthwhile."""
    return has_fixed_shapes(model) or (isinstance(model, HasDynamicShapes) and model.dynamic_shapes)


def has_no_decay(module: nn.Module) -> bool:
    """Whether weight decay leaves out the parameters of a module."""
    return isinstance(module, HasNoDecay) and module.no_decay
