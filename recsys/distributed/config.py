"""How embedding tables are trained and sharded."""

from typing import Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel

ShardingName = Literal["data_parallel", "table_wise", "row_wise", "column_wise"]


class TableOptions(StrictModel):
    """How one embedding table, or those that match a pattern, are trained and sharded."""

    optimizer: Literal["adamw", "rowwise_adagrad", "adam"] | None = None
    """adamw: with the dense part, on whole gradients. The others are fused: the backward pass updates the rows that a
    batch touches and no gradient is kept. adam needs a GPU. null: by size."""
    sharding: tuple[ShardingName, ...] = ()
    """The ways the planner may choose from; empty: data_parallel for adamw, table_wise or row_wise for
    fused tables. column_wise on request: its parts of a row have learning rates of their own."""

    @model_validator(mode="after")
    def _fused_tables_are_not_copied(self) -> "TableOptions":
        if self.optimizer == "adamw" and set(self.sharding) - {"data_parallel"}:
            raise ValueError("a table with optimizer adamw is data_parallel: name a fused optimizer to shard it")
        if self.optimizer not in (None, "adamw") and "data_parallel" in self.sharding:
            raise ValueError(f"a table with optimizer {self.optimizer} cannot be data_parallel: take one of them away")
        return self


class EmbeddingTraining(StrictModel):
    """How embedding tables are trained and sharded."""

    fused_from_rows: int = Field(default=100_000, ge=1)
    """Tables of so many rows or more have a fused optimizer (row-wise Adagrad), smaller ones AdamW."""
    fused_learning_rate: float = Field(default=0.02, gt=0)
    """Peak of the fused optimizers' learning rate; it warms up and falls as the dense one does."""
    l2: float = Field(default=0.0, ge=0)
    """L2 penalty l2 / 2 |row|^2 on the rows that a batch touches."""
    tables: dict[str, TableOptions] = {}
    """By table name or pattern; the last match counts."""
