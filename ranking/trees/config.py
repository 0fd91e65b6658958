"""Settings of gradient-boosted trees."""

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from recsys import defaults
from recsys.config import StrictModel
from recsys.defaults import AUTO, Auto, DataSize, filled
from recsys.training.config import (
    UNSEEN_SHARE,
    EarlyStopping,
    LossConfig,
    ParallelFits,
    PositiveFloat,
    PositiveInt,
    Seeds,
    UnseenShare,
)

TreeLibrary = Literal["lightgbm", "xgboost", "catboost"]
_WITHOUT: dict[TreeLibrary, tuple[str, ...]] = {
    "lightgbm": (),
    "xgboost": ("cat_smooth", "min_data_per_group"),
    "catboost": ("boosting", "min_data_in_leaf", "cat_smooth", "min_data_per_group", "drop_rate"),
}
"""The settings that a library does not have."""


class GBDTConfig(StrictModel):
    """Hyperparameters of the trees, by LightGBM's names."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Literal["gbdt"] = "gbdt"
    library: TreeLibrary = Field(default="lightgbm", exclude_if=lambda value: value == "lightgbm")
    """XGBoost bounds the weight of a leaf instead of its rows; CatBoost grows symmetric trees."""
    boosting: Literal["gbdt", "dart"] = "gbdt"
    n_trees: Auto[PositiveInt] = AUTO
    """Maximum number of trees; early stopping may keep fewer."""
    learning_rate: Auto[PositiveFloat] = AUTO
    num_leaves: Auto[Annotated[int, Field(ge=2, le=131_072)]] = AUTO
    min_data_in_leaf: Auto[PositiveInt] = AUTO
    feature_fraction: float = Field(default=0.7, gt=0, le=1)
    bagging_fraction: float = Field(default=0.8, gt=0, le=1)
    l2: float = Field(default=1.0, ge=0)
    max_bin: int = Field(default=255, ge=2)
    categorical: Literal["native", "ordered"] = "native"
    """native: splits by sets of ids, in CatBoost by rates. ordered: splits ids as numbers; ids are sorted by falling
    frequency."""
    cat_smooth: float = Field(default=10.0, ge=0)
    min_data_per_group: int = Field(default=100, ge=1)
    drop_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of trees dropped in each DART iteration."""

    @model_validator(mode="after")
    def _check_settings(self) -> "GBDTConfig":
        fields = type(self).model_fields
        for name in _WITHOUT[self.library]:
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} is not a setting of {self.library}: remove it, or set library=lightgbm")
        return self

    def resolved(self, size: DataSize) -> "GBDTConfig":
        """Replaces the settings that are `auto` by those for data of this size."""
        return filled(self, asdict(defaults.trees(size)) | dict.fromkeys(_WITHOUT[self.library], AUTO))


class GBDTTrainerConfig(StrictModel):
    """Training settings of the trees; they have the same meaning as for deep models."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1001)
    seeds: Seeds = 1
    """Fits of each split, with the seeds `seed`, `seed` + 1, ...; predictions are the means of their logits."""
    parallel_fits: ParallelFits = 1
    """Fits that train at once, each in its own process with its share of the cores; null: one for every two cores, as
    far as there is memory. Trees use all cores well, and copy their rows."""
    loss: LossConfig = LossConfig()
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null grows all `n_trees`. Its patience counts passes over the rows, which trees do not make: see
    `patience_trees`."""
    unseen_share: UnseenShare = UNSEEN_SHARE
    trees_per_epoch: PositiveInt = 10
    """Trees between two evaluations of early stopping, which are called epochs."""
    patience_trees: Auto[PositiveInt] = AUTO
    """Trees without improvement before growth stops."""

    def resolved(self, size: DataSize) -> "GBDTTrainerConfig":
        """Replaces the settings that are `auto` by those for data of this size."""
        stopping = self.early_stopping and self.early_stopping.resolved(size)
        changed = self.model_copy(update={"early_stopping": stopping})
        return filled(changed, {"patience_trees": defaults.patience_trees(size)})
