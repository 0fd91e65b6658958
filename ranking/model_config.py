"""What the configs of all deep ranking models share."""

from recsys.config import StrictModel


class DeepModelConfig(StrictModel):
    """Sizes of a deep model.

    A model's own config declares `name: Literal["NAME"] = "NAME"`: what `--model` and run folders call it.
    """

    name: str
