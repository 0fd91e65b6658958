"""The base class of the configs of deep ranking models."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field

from recsys.config import StrictModel
from recsys.defaults import DataSize

Width = Annotated[int, Field(ge=1)]
"""Width of a layer."""


class DeepModelConfig(StrictModel):
    """Hyperparameters of a deep model.

    A subclass declares `name: Literal["NAME"] = "NAME"`, the name of the model in `--model` and in run folders.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    name: str

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size; the base class has none."""
        return self
