"""Settings of the training and sharding of embedding tables."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys import defaults
from recsys.config import StrictModel
from recsys.defaults import AUTO, Auto, filled

Location = Literal["device", "managed", "managed_caching"]
ShardingName = Literal["data_parallel", "table_wise", "row_wise", "column_wise"]


class TableOptions(StrictModel):
    """Training and sharding of one embedding table, or of all tables that match a pattern."""

    optimizer: Literal["adamw", "rowwise_adagrad", "adam", "sgd"] | None = None
    """adamw trains the table with the dense part, on full gradients. The other optimizers are fused: the backward pass
    updates the rows that a batch touches and keeps no gradient. adam needs a GPU. null chooses by table size."""
    location: Location = "device"
    """Memory of a fused table on a GPU. managed: the host's, which the GPU reads; managed_caching: the host's, with a
    cache of rows in the GPU's. For tables larger than the memory of all GPUs."""
    sharding: tuple[ShardingName, ...] = ()
    """Sharding types that the planner may choose from. Empty: data_parallel for adamw, table_wise or row_wise for fused
    tables. column_wise must be listed explicitly: each column shard of a row has its own learning rate."""

    @model_validator(mode="after")
    def _check_sharding(self) -> "TableOptions":
        if self.optimizer == "adamw" and set(self.sharding) - {"data_parallel"}:
            raise ValueError("a table with optimizer adamw must be data_parallel: set a fused optimizer to shard it")
        if self.optimizer == "adamw" and self.location != "device":
            raise ValueError(f"a table with optimizer adamw cannot be {self.location}: set a fused optimizer")
        if self.location != "device" and "data_parallel" in self.sharding:
            raise ValueError(f"a table in {self.location} memory cannot be data_parallel: remove one of the two")
        if self.optimizer not in (None, "adamw") and "data_parallel" in self.sharding:
            raise ValueError(f"a table with optimizer {self.optimizer} cannot be data_parallel: remove one of the two")
        return self


class EmbeddingTraining(StrictModel):
    """Training and sharding of all embedding tables."""

    fused_from_rows: Auto[Annotated[int, Field(ge=1)]] = AUTO
    """Tables with at least this many rows use a fused optimizer (row-wise Adagrad), smaller tables AdamW."""
    fused_learning_rate: float = Field(default=0.02, gt=0)
    """Peak learning rate of the fused optimizers; it follows the schedule of the dense learning rate."""
    l2: Auto[Annotated[float, Field(ge=0)]] = AUTO
    """L2 penalty l2 / 2 |row|^2 on the rows that a batch touches."""
    tables: dict[str, TableOptions] = {}
    """Options by table name or pattern; the last match applies."""

    def resolved(self, device: str, l2: float = 0.0) -> "EmbeddingTraining":
        """Replaces the settings that are `auto` by those for a type of device, and by a penalty."""
        return filled(self, {"fused_from_rows": defaults.fused_from_rows(device), "l2": l2})
