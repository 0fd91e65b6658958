"""A data set of the benchmark: how to read it, and the roles of its columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Source:
    """A data set of which the benchmark takes the first rows."""

    name: str
    read: Callable[[int], pa.Table]
    """Reads at least the first n rows, in the order of time where there is one."""
    sizes: tuple[int, ...]
    """Numbers of rows to try; the last is replaced by all rows if there are fewer."""
    categorical: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    label: Any = "label"
    sequences: tuple[tuple[str, dict[str, Any]], ...] = ()
    target_item: str | None = None

    def schema(self) -> dict[str, Any]:
        """The section `schema` of a config."""
        roles = {"label": self.label, "categorical": list(self.categorical), "numeric": list(self.numeric)}
        optional = {"sequences": dict(self.sequences), "target_item": self.target_item}
        return roles | {key: value for key, value in optional.items() if value}
