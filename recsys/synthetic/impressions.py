"""Impressions: their users, ads, days and hours, the logit of a click, and the feature columns.

Shapes: I ad sets (the items of the catalog).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr

from recsys.synthetic import columns
from recsys.synthetic.ads import N_AD_SETS, N_AD_TYPES, N_DAYS, AdCatalog, make_ad_catalog
from recsys.synthetic.draws import Draws, draw_categorical
from recsys.synthetic.sequences import MATCH_LENGTH, Events, SequenceGenerator, as_strings
from recsys.synthetic.users import (
    TASTE_ON_ACTIVITY,
    Users,
    feature_columns,
    make_users,
    n_users,
    user_columns,
    user_of_row,
)

N_PILOT, _PILOT_BLOCK, _N_REFERENCE = 65_536, 2048, 1024
_HISTORY_SD, _INTERACTION_SD = 0.37, 0.18
_N_SLOTS, _N_FORMATS = 18, 5
_RARE_SLOTS = {1: 16, 3: 13, 5: 10}
"""Slot (l_feat_26) by format (l_feat_27): pairs with a high click rate, in 2 % of rows."""
_RARE_LOGIT = 2.2


@dataclass(frozen=True)
class Impressions:
    """n impressions: the drawn values and the logit."""

    row: np.ndarray
    users: Users
    day: np.ndarray
    inventory: np.ndarray
    hour: np.ndarray
    ad_set: np.ndarray
    creative: np.ndarray
    slot: np.ndarray
    ad_format: np.ndarray
    is_null_1: np.ndarray
    is_null_2: np.ndarray
    logit: np.ndarray
    """[n] click logits without the sequence term and the intercept."""


def _log_odds(table: dict[str, tuple[float, float]]) -> np.ndarray:
    rates = np.array([rate for _, rate in table.values()]) / 100
    return logit(rates) - logit(columns.BASE_RATE)


def _activity_logit(activity: np.ndarray) -> np.ndarray:
    """[n] logit term of activity A: the rates by sequence length, without the part that the history term explains."""
    length = np.interp(ndtr(activity), columns.SEQ_LENGTH_LEVELS, columns.SEQ_LENGTHS)
    rates = np.array(list(columns.SEQ_LENGTH_RATES.values())) / 100
    published = np.interp(np.log(length), np.log(list(columns.SEQ_LENGTH_RATES)), logit(rates))
    return published - logit(columns.BASE_RATE) - _HISTORY_SD * TASTE_ON_ACTIVITY * activity


def _shares(table: dict[str, tuple[float, float]]) -> np.ndarray:
    return np.array([share for share, _ in table.values()])


def _interaction(draws: Draws, name: str, share: np.ndarray) -> np.ndarray:
    """Draws [n_inventories, n_values] interaction logits; the weighted mean of every row and column is zero.

    Args:
        draws: random streams.
        name: the stream name of the interaction.
        share: [n_values] weights of the values that interact with the inventory.
    """
    inventory_share = _shares(columns.INVENTORY)
    logits = _INTERACTION_SD * draws.normal(name, np.arange(len(inventory_share) * len(share))).reshape(
        len(inventory_share), len(share)
    )
    for _ in range(20):  # centering one axis shifts the other, less each time
        logits -= np.average(logits, axis=1, weights=share)[:, None]
        logits -= np.average(logits, axis=0, weights=inventory_share)
    return logits


def _is_rare(slot: np.ndarray, ad_format: np.ndarray) -> np.ndarray:
    """[n] whether the slot and format of a row are a pair with a high click rate."""
    slot_by_format = np.zeros(_N_FORMATS + 1, np.int64)
    slot_by_format[list(_RARE_SLOTS)] = list(_RARE_SLOTS.values())
    return slot_by_format[ad_format] == slot


class ImpressionGenerator:
    """Generates the impressions of one split.

    Args:
        seed: the seed of the data set.
        n_rows: number of rows of the split.
        is_test: test rows are of a later day, with shifted popularity.
        n_train_rows: number of training rows; test user numbers start at the middle of the training users.
    """

    def __init__(self, seed: int, n_rows: int, is_test: bool, n_train_rows: int) -> None:
        self._seed, self._n_rows, self._is_test = seed, n_rows, is_test
        self._first_user = n_users(n_train_rows) // 2 if is_test else 0
        self._row_shift = 1 << 40 if is_test else 0  # test rows have other random numbers than training rows
        self._draws = Draws(seed)
        self.ads: AdCatalog = make_ad_catalog(self._draws)
        self.sequences = SequenceGenerator(self._draws)
        # An ad type is weighted by the popularity of its ad sets.
        type_share = np.bincount(
            self.ads.columns(np.arange(N_AD_SETS), self.ads.first_creative[:-1])["l_feat_4"].astype(np.int64) - 1,
            weights=self.ads.popularity[: N_DAYS - 1].sum(axis=0),
            minlength=N_AD_TYPES,
        )
        self._mean_match = self._mean_match_by_ad_set()
        self._age_interaction = _interaction(self._draws, "inventory x age", _shares(columns.AGE))
        self._type_interaction = _interaction(self._draws, "inventory x type", type_share)

    def _mean_match_by_ad_set(self) -> np.ndarray:
        """[I] mean match of each ad set with the users to whom it is shown.

        It is subtracted from the match: otherwise a model could learn a part of the match from the ad alone. Estimated
        on reference users outside all splits, weighted by the probability that the ad set is shown to them.
        """
        number = (1 << 41) + np.arange(_N_REFERENCE)
        users = make_users(self._draws, number)
        lengths = np.minimum(self.sequences.lengths(users, number), MATCH_LENGTH)
        shares = self.sequences.topic_shares(self.sequences.events(users, number, lengths))
        match = np.log(shares @ self.sequences.topic_affinities(self.ads.vector).T)
        weight = np.exp(users.interest @ self.ads.vector.T)
        weight /= (weight @ self.ads.popularity.mean(axis=0))[:, None]
        return np.average(match, axis=0, weights=weight)

    def users(self, position: np.ndarray) -> Users:
        """Generates the users of [n] row positions of the split."""
        return make_users(self._draws, user_of_row(self._n_rows, self._seed, self._first_user, position))

    def days(self, position: np.ndarray) -> np.ndarray:
        """Draws the days of [n] row positions, 0 .. N_DAYS - 1; the last day is that of the test split."""
        if self._is_test:
            return np.full(len(position), N_DAYS - 1)
        return draw_categorical(_shares(columns.DAYS), self._draws.uniform("day", position + self._row_shift))

    def impressions(self, position: np.ndarray) -> Impressions:
        """Generates the impressions at [n] row positions of the split."""
        draws, row = self._draws, position + self._row_shift
        users, day = self.users(position), self.days(position)
        inventory = draw_categorical(_shares(columns.INVENTORY), draws.uniform("invent", row))
        hour = draw_categorical(_shares(columns.HOURS), draws.uniform("hour", row))
        ad_set = self.ads.draw_ad_sets(draws, row, day, users.interest)
        creative = self.ads.draw_creatives(draws, row, ad_set)
        is_null_1 = draws.uniform("null_1", row) < columns.NULL_RATE_1
        is_null_2 = (draws.uniform("null_1", row) < 0.97 * columns.NULL_RATE_1) | (
            draws.uniform("null_2", row) < columns.NULL_RATE_2 - 0.97 * columns.NULL_RATE_1
        )
        slot = 1 + np.floor(_N_SLOTS * draws.uniform("l_feat_26", row) ** 2).astype(np.int64)
        ad_format = 1 + np.floor(_N_FORMATS * draws.uniform("l_feat_27", row)).astype(np.int64)
        ad_type = self.ads.columns(ad_set, creative)["l_feat_4"].astype(np.int64) - 1
        day_logit = _log_odds(columns.DAYS)[np.minimum(day, len(columns.DAYS) - 1)]
        click_logit = (
            _log_odds(columns.INVENTORY)[inventory]
            + _log_odds(columns.AGE)[users.age]
            + _log_odds(columns.GENDER)[users.gender]
            + _log_odds(columns.HOURS)[hour]
            + (0.0 if self._is_test else day_logit)
            + _HISTORY_SD * users.taste
            + _activity_logit(users.activity)
            + self.ads.bias[ad_set]
            + self._age_interaction[inventory, users.age]
            + self._type_interaction[inventory, ad_type]
            + np.where(is_null_1 | is_null_2, logit(columns.NULL_CLICK_RATE / 100) - logit(columns.BASE_RATE), 0.0)
            + _RARE_LOGIT * _is_rare(slot, ad_format)
        )
        return Impressions(
            row, users, day, inventory, hour, ad_set, creative, slot, ad_format, is_null_1, is_null_2, click_logit
        )

    def label_uniform(self, impressions: Impressions) -> np.ndarray:
        """[n] uniform numbers: a row is clicked if its number is below p."""
        return self._draws.uniform("label", impressions.row)

    def match(self, impressions: Impressions, events: Events) -> np.ndarray:
        """[n] match of the ads with the last events, minus the mean match of the ad set; not standardized."""
        affinities = self.sequences.topic_affinities(self.ads.vector[impressions.ad_set])
        return (
            np.log((self.sequences.topic_shares(events) * affinities).sum(axis=1))
            - self._mean_match[impressions.ad_set]
        )

    def table(self, impressions: Impressions, events: Events) -> pa.Table:
        """Returns the feature columns."""
        draws, row, n = self._draws, impressions.row, len(impressions.row)
        category_values = {name: np.array(list(values)) for name, values in (
            ("gender", columns.GENDER), ("age_group", columns.AGE), ("inventory_id", columns.INVENTORY),
            ("day_of_week", columns.DAYS), ("hour", columns.HOURS),
        )}  # fmt: skip
        arrays: dict[str, pa.Array] = {
            "gender": pa.array(category_values["gender"]).take(pa.array(impressions.users.gender)),
            "age_group": pa.array(category_values["age_group"]).take(pa.array(impressions.users.age)),
            "inventory_id": pa.array(category_values["inventory_id"]).take(pa.array(impressions.inventory)),
            "day_of_week": pa.array(category_values["day_of_week"]).take(pa.array(np.minimum(impressions.day, 6))),
            "hour": pa.array(category_values["hour"]).take(pa.array(impressions.hour)),
            "seq": as_strings(events),
        }
        numbers = self.ads.columns(impressions.ad_set, impressions.creative)
        numbers |= user_columns(draws, impressions.users) | feature_columns(draws, impressions.users, row)
        is_usual = draws.uniform("l_feat_25", row) < 0.55
        unusual = 1 + (1788 * draws.uniform("l_feat_25b", row) ** 2).astype(np.int64)
        numbers["l_feat_25"] = np.where(is_usual, 1129, unusual)
        numbers["l_feat_26"], numbers["l_feat_27"] = impressions.slot, impressions.ad_format
        rate_e3 = columns.TEST_NULL_RATE_E3 if self._is_test else columns.NULL_RATE_E3
        nulls = dict.fromkeys(columns.NULL_BLOCK_1, impressions.is_null_1)
        nulls |= dict.fromkeys(columns.NULL_BLOCK_2, impressions.is_null_2)
        nulls["feat_e_3"] = draws.uniform("null_e3", row) < rate_e3
        for name in columns.NUMBERS:
            arrays[name] = pa.array(numbers[name].astype(np.float32), mask=nulls.get(name))
        for name in ("gender", "age_group"):
            arrays[name] = pc.if_else(pa.array(impressions.is_null_1), None, arrays[name])
        assert all(len(values) == n for values in arrays.values())
        return pa.table({name: arrays[name] for name in columns.FEATURES})

    def events(self, impressions: Impressions, max_length: int | None = None) -> Events:
        """Generates the events of the impressions' users; at most the last `max_length` if set."""
        lengths = self.sequences.lengths(impressions.users, impressions.row)
        return self.sequences.events(
            impressions.users, impressions.row, lengths if max_length is None else np.minimum(lengths, max_length)
        )


@dataclass(frozen=True)
class ClickModel:
    """Computes true click probabilities of impressions, with parameters fitted on a pilot sample."""

    match_mean: float
    match_sd: float
    intercept: float
    seq_strength: float

    def probability(self, impressions: Impressions, match: np.ndarray) -> np.ndarray:
        """Computes [n] float64 click probabilities."""
        standard = (match - self.match_mean) / self.match_sd
        return expit(impressions.logit + self.seq_strength * standard + self.intercept)


def fit_click_model(maker: ImpressionGenerator, seq_strength: float, base_rate: float) -> ClickModel:
    """Fits the mean and std of the match, and the intercept of the base rate, on a pilot sample of fixed size."""
    # Rows of a far larger split, so that few share a user: shared users reduce the effective sample size.
    pilot = ImpressionGenerator(maker._seed, 16 * N_PILOT, maker._is_test, N_PILOT)
    logits, matches = [], []
    for start in range(0, N_PILOT, _PILOT_BLOCK):
        impressions = pilot.impressions(np.arange(start, start + _PILOT_BLOCK))
        logits.append(impressions.logit)
        matches.append(pilot.match(impressions, pilot.events(impressions, MATCH_LENGTH)))
    match = np.concatenate(matches)
    mean, sd = float(match.mean()), float(match.std())
    logit_without_intercept = np.concatenate(logits) + seq_strength * (match - mean) / sd
    intercept = brentq(lambda value: expit(logit_without_intercept + value).mean() - base_rate, -20, 20)
    return ClickModel(mean, sd, float(intercept), seq_strength)
