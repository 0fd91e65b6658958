"""Settings that are chosen by the data unless a config sets them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from recsys.config import StrictModel


class AutoModel(StrictModel):
    """A model in which `auto` leaves a key of `auto_keys` unset, for a default that depends on the data."""

    auto_keys: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _leave_out_auto(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        renamed = cls.renamed_keys
        return {k: value for k, value in values.items() if not (renamed.get(k, k) in cls.auto_keys and value == "auto")}

    def is_auto(self, key: str) -> bool:
        """Whether a key is not set."""
        return key not in self.model_fields_set
