"""Settings that are auto, and the rules behind them."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ranking.ft_transformer import FTTransformerConfig
from ranking.models import DEEP_MODELS, resolve
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
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
            of_the_labels, of_a_gpu = {"pos_weight", "alpha"}, {"data", "compile"}  # its memory, and the model
            assert left <= (of_the_labels | of_a_gpu if size.device == "cuda" else of_the_labels)
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


@pytest.mark.parametrize(("n_rows", "n_clicks"), [(1_600, 55), (1_600, 26), (800, 165), (8_000, 266), (100_000, 90)])
def test_few_clicks_are_learned_from_in_enough_updates(n_rows: int, n_clicks: int) -> None:
    size = DataSize(n_rows, n_clicks)
    n_epochs, n_steps = defaults.epochs(size), -(-n_rows // defaults.batch_size(size))
    assert n_epochs == 10 or n_epochs * n_steps > 105  # 120, to the nearest epoch
    assert n_epochs <= 10  # more memorize the clicks


def test_passes_are_ten_below_2000_updates_and_five_above() -> None:
    of_100_000, of_a_million = DataSize(100_000, 40_000), DataSize(1_000_000, 400_000)
    assert defaults.epochs(of_100_000) == 10  # 196 updates each
    assert defaults.epochs(of_a_million) == 8  # 245 updates each
    assert defaults.epochs(MILLIONS) == 5  # 1,954 updates each
    assert defaults.epochs(DataSize(100_000, 1_500)) == 5  # one update for every two clicks: 750 of 196 each


def test_the_rate_of_few_clicks_follows_the_batch_that_they_need() -> None:
    """55 clicks of 1,600 rows need four times the rows of a batch: their rate is twice that of balanced rows."""
    balanced, rare = DataSize(1_600, 110), DataSize(1_600, 55)
    assert defaults.batch_size(rare) == 2 * defaults.batch_size(balanced) == 256
    assert defaults.learning_rate(rare) == pytest.approx(0.001 * 2)
    assert defaults.learning_rate(DataSize(100, 50)) == 0.001
    assert defaults.learning_rate(DataSize(1_000_000, 500)) == 0.003  # never above that of many clicks


def test_the_share_of_the_linear_part_is_larger_and_firmer_before_few_clicks() -> None:
    few, some, many = (defaults.share_prior(DataSize(20 * n, n)) for n in (80, 400, 100_000))
    assert (few.mean, few.std) == (pytest.approx(0.8), pytest.approx(0.1))
    assert few.mean > some.mean > many.mean == 0.5
    assert few.std < some.std < many.std == 0.25


def test_few_monitored_clicks_are_waited_for_longer() -> None:
    patience = [defaults.patience(DataSize(10 * n, n)) for n in (100, 1_500, 100_000)]
    assert patience == [5, 3, 2]


def test_layer_normalization_needs_a_lower_rate_and_a_start_at_zero_a_higher_one() -> None:
    balanced, few = DataSize(3_000, 1_500), DataSize(1_600, 500)
    rates = [
        resolve(FTTransformerConfig(norm=norm), TrainerConfig(learning_rate=rate), balanced)[1].learning_rate
        for norm, rate in (("none", AUTO), ("layer", AUTO), ("layer", 0.01))
    ]
    assert rates == [0.003, 0.0015, 0.01]
    none = FTTransformerConfig(norm="none")
    assert resolve(none, TrainerConfig(), few)[1].learning_rate == 0.003 > defaults.learning_rate(few)
    smaller = TrainerConfig(batch_size=16)
    assert resolve(none, smaller, few)[1].learning_rate == defaults.learning_rate(few, 16)


def test_rare_values_of_a_small_log_have_ids() -> None:
    assert [defaults.min_count(n) for n in (2_000, 50_000, 10_000_000)] == [2, 2, 10]
