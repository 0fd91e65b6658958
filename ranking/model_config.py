"""The base class of the configs of deep ranking models."""

from recsys.config import StrictModel


class DeepModelConfig(StrictModel):
    """Hyperparameters of a deep model.

    A subclass declares `name: Literal["NAME"] = "NAME"`, the name of the model in `--model` and in run folders.
    """

    name: str
