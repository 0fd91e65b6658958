"""Settings that are auto, and the rules behind them."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ranking.gbdt_config import GBDTConfig, GBDTTrainerConfig
from ranking.models import DEEP_MODELS
from recsys import defaults
from recsys.defaults import AUTO, Auto, DataSize, filled
from recsys.training.config import EarlyStopping, TrainerConfig

SMALL = DataSize(n_rows=6_000, n_positive=1_200)
MILLIONS = DataSize(n_rows=8_000_000, n_positive=160_000)
MILLIONS_ON_A_GPU = DataSize(n_rows=8_000_000, n_positive=160_000, device="cuda")


class Settings(BaseModel):
    width: Auto[int] = AUTO
    rate: Auto[float] = 0.5


def test_auto_is_kept_until_it_is_filled() -> None:
    settings = Settings.model_validate({"rate": "auto"})
    assert settings.model_dump(mode="json") == {"width": "auto", "rate": "auto"}
    assert filled(settings, {"width": 3, "rate": 0.1}) == Settings(width=3, rate=0.1)
    assert filled(Settings(width=7), {"width": 3, "rate": 0.1}) == Settings(width=7, rate=0.5)
    with pytest.raises(ValidationError):
        Settings.model_validate({"width": "automatic"})
    with pytest.raises(ValidationError):
        TrainerConfig.model_validate({"batch_size": 0})


def test_every_auto_setting_has_a_rule() -> None:
    for size in (SMALL, MILLIONS, MILLIONS_ON_A_GPU):
        models = (model.config() for model in DEEP_MODELS)
        for config in (TrainerConfig(), GBDTTrainerConfig(), GBDTConfig(), *models):
            resolved = config.resolved(size)
            left = {name for name, value in _values(resolved.model_dump()) if value == AUTO}
            assert left <= {"pos_weight", "alpha"}  # of the loss: they depend on the labels of the split
            assert resolved.resolved(MILLIONS_ON_A_GPU) == resolved  # a second time changes nothing


def _values(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        pair
        for name, value in settings.items()
        for pair in (_values(value) if isinstance(value, dict) else [(name, value)])
    ]


def test_what_is_set_is_kept() -> None:
    config = TrainerConfig(batch_size=77, early_stopping=EarlyStopping(patience=9)).resolved(MILLIONS)
    assert (config.batch_size, config.early_stopping and config.early_stopping.patience) == (77, 9)
    assert TrainerConfig(early_stopping=None).resolved(SMALL).early_stopping is None


def test_small_data_is_trained_on_in_many_steps() -> None:
    assert defaults.batch_size(SMALL) == 64
    assert -(-SMALL.n_rows // defaults.batch_size(SMALL)) > 90


def test_a_batch_has_rows_of_the_rarer_class() -> None:
    for n_rows, rate in ((5_000, 0.05), (100_000, 0.02), (50_000, 0.99)):
        size = DataSize(n_rows, round(n_rows * rate))
        assert defaults.batch_size(size) * min(rate, 1 - rate) > 5  # the nearest power of two to eight rows


def test_sizes_of_millions_of_rows() -> None:
    assert defaults.batch_size(MILLIONS) == 4096
    assert defaults.batch_size(MILLIONS_ON_A_GPU) == 16_384
    assert defaults.fused_from_rows("cuda") > defaults.fused_from_rows("cpu")
    assert defaults.ft_transformer(MILLIONS_ON_A_GPU).d_model == 256
    assert defaults.ft_transformer(MILLIONS).d_model < 256


def test_fewer_clicks_are_fitted_less_closely() -> None:
    few = DataSize(n_rows=6_000, n_positive=200)
    assert defaults.learning_rate(few) < defaults.learning_rate(SMALL) == 0.003
    assert defaults.trees(few).num_leaves < defaults.trees(MILLIONS).num_leaves
    assert defaults.validation_fraction(few) == 0.1
    assert defaults.validation_fraction(MILLIONS) == 0.05
    assert round(defaults.validation_fraction(DataSize(50_000, 7_000)) * 7_000) == 500


def test_rare_values_of_a_small_log_have_ids() -> None:
    assert [defaults.min_count(n) for n in (2_000, 50_000, 10_000_000)] == [2, 5, 10]
