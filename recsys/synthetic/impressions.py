"""Impressions: who is shown what, when and where, the logit of a click, and the columns that tell of it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr

from recsys.synthetic import columns
from recsys.synthetic.ads import N_AD_SETS, N_AD_TYPES, N_DAYS, AdCatalog, make_ad_catalog
from recsys.synthetic.draws import Draws, pick
from recsys.synthetic.sequences import MATCH_LENGTH, Events, SequenceMaker, as_strings
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
"""Slot (l_feat_26) by format (l_feat_27) that together draw clicks: 2 % of rows."""
_RARE_LOGIT = 2.2


@dataclass(frozen=True)
class Impressions:
    """n impressions, and what their logit is made of but for the intercept."""

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
    """[n] without the term of the sequences and the intercept."""


def _log_odds(table: dict[str, tuple[float, float]]) -> np.ndarray:
    rates = np.array([rate for _, rate in table.values()]) / 100
    return logit(rates) - logit(columns.BASE_RATE)


def _activity_logit(activity: np.ndarray) -> np.ndarray:
    """[n] what click rates by sequence length leave for A itself: the history columns tell of A too."""
    length = np.interp(ndtr(activity), columns.SEQ_LENGTH_LEVELS, columns.SEQ_LENGTHS)
    rates = np.array(list(columns.SEQ_LENGTH_RATES.values())) / 100
    published = np.interp(np.log(length), np.log(list(columns.SEQ_LENGTH_RATES)), logit(rates))
    return published - logit(columns.BASE_RATE) - _HISTORY_SD * TASTE_ON_ACTIVITY * activity


def _shares(table: dict[str, tuple[float, float]]) -> np.ndarray:
    return np.array([share for share, _ in table.values()])


def _interaction(draws: Draws, name: str, share: np.ndarray) -> np.ndarray:
    """[inventories, K] logits that change no margin: every row and column has a weighted mean of zero.

    Args:
        draws: streams.
        name: of the interaction.
        share: [K] weights of the other side's values.
    """
    mine = _shares(columns.INVENTORY)
    logits = _INTERACTION_SD * draws.normal(name, np.arange(len(mine) * len(share))).reshape(len(mine), len(share))
    for _ in range(20):  # taking one margin away disturbs the other less and less
        logits -= np.average(logits, axis=1, weights=share)[:, None]
        logits -= np.average(logits, axis=0, weights=mine)
    return logits


def _is_rare(slot: np.ndarray, ad_format: np.ndarray) -> np.ndarray:
    """[n] whether the slot and the format of a row are one of the pairs that draw clicks."""
    wanted = np.zeros(_N_FORMATS + 1, np.int64)
    wanted[list(_RARE_SLOTS)] = list(_RARE_SLOTS.values())
    return wanted[ad_format] == slot


class ImpressionMaker:
    """Draws the impressions of one split.

    Args:
        seed: of all data.
        n_rows: rows of the split.
        is_test: test rows come from a later day, with shifted popularity.
        n_train_rows: rows of the training split: test users are drawn from its later half on.
    """

    def __init__(self, seed: int, n_rows: int, is_test: bool, n_train_rows: int) -> None:
        self._seed, self._n_rows, self._is_test = seed, n_rows, is_test
        self._first_user = n_users(n_train_rows) // 2 if is_test else 0
        self._row_shift = 1 << 40 if is_test else 0  # test rows draw their own numbers
        self._draws = Draws(seed)
        self.ads: AdCatalog = make_ad_catalog(self._draws)
        self.sequences = SequenceMaker(self._draws)
        # Only popular ad types are seen often: they weigh as their ad sets are shown.
        type_share = np.bincount(
            self.ads.columns(np.arange(N_AD_SETS), self.ads.first_creative[:-1])["l_feat_4"].astype(np.int64) - 1,
            weights=self.ads.popularity[: N_DAYS - 1].sum(axis=0),
            minlength=N_AD_TYPES,
        )
        self._usual_match = self._mean_match_by_ad_set()
        self._with_age = _interaction(self._draws, "inventory x age", _shares(columns.AGE))
        self._with_type = _interaction(self._draws, "inventory x type", type_share)

    def _mean_match_by_ad_set(self) -> np.ndarray:
        """[A] mean match of each ad set with those who are shown it.

        Without it a model could learn a part of the match from the ad alone. Estimated on reference users of no split,
        who weigh as likely as they would be shown the ad set.
        """
        number = (1 << 41) + np.arange(_N_REFERENCE)
        users = make_users(self._draws, number)
        lengths = np.minimum(self.sequences.lengths(users, number), MATCH_LENGTH)
        shares = self.sequences.topic_shares(self.sequences.events(users, number, lengths))
        match = np.log(shares @ self.sequences.answers(self.ads.vector).T)
        weight = np.exp(users.interest @ self.ads.vector.T)
        weight /= (weight @ self.ads.popularity.mean(axis=0))[:, None]
        return np.average(match, axis=0, weights=weight)

    def users(self, place: np.ndarray) -> Users:
        """The users of [n] places of the split."""
        return make_users(self._draws, user_of_row(self._n_rows, self._seed, self._first_user, place))

    def days(self, place: np.ndarray) -> np.ndarray:
        """[n] days of the places, 0 .. N_DAYS - 1; the last one is the test split's."""
        if self._is_test:
            return np.full(len(place), N_DAYS - 1)
        return pick(_shares(columns.DAYS), self._draws.uniform("day", place + self._row_shift))

    def impressions(self, place: np.ndarray) -> Impressions:
        """The impressions at [n] places of the split."""
        draws, row = self._draws, place + self._row_shift
        users, day = self.users(place), self.days(place)
        inventory = pick(_shares(columns.INVENTORY), draws.uniform("invent", row))
        hour = pick(_shares(columns.HOURS), draws.uniform("hour", row))
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
        total = (
            _log_odds(columns.INVENTORY)[inventory]
            + _log_odds(columns.AGE)[users.age]
            + _log_odds(columns.GENDER)[users.gender]
            + _log_odds(columns.HOURS)[hour]
            + (0.0 if self._is_test else day_logit)
            + _HISTORY_SD * users.taste
            + _activity_logit(users.activity)
            + self.ads.bias[ad_set]
            + self._with_age[inventory, users.age]
            + self._with_type[inventory, ad_type]
            + np.where(is_null_1 | is_null_2, logit(columns.NULL_CLICK_RATE / 100) - logit(columns.BASE_RATE), 0.0)
            + _RARE_LOGIT * _is_rare(slot, ad_format)
        )
        return Impressions(
            row, users, day, inventory, hour, ad_set, creative, slot, ad_format, is_null_1, is_null_2, total
        )

    def label_chance(self, shown: Impressions) -> np.ndarray:
        """[n] uniform numbers: a row is clicked where its own is below p."""
        return self._draws.uniform("label", shown.row)

    def match(self, shown: Impressions, events: Events) -> np.ndarray:
        """[n] how well the ads match the last events, not yet standardised; no ad set matches better by itself."""
        answers = self.sequences.answers(self.ads.vector[shown.ad_set])
        return np.log((self.sequences.topic_shares(events) * answers).sum(axis=1)) - self._usual_match[shown.ad_set]

    def table(self, shown: Impressions, events: Events) -> pa.Table:
        """The published columns, labels left out."""
        draws, row, n = self._draws, shown.row, len(shown.row)
        names = {name: np.array(list(values)) for name, values in (
            ("gender", columns.GENDER), ("age_group", columns.AGE), ("inventory_id", columns.INVENTORY),
            ("day_of_week", columns.DAYS), ("hour", columns.HOURS),
        )}  # fmt: skip
        found: dict[str, pa.Array] = {
            "gender": pa.array(names["gender"]).take(pa.array(shown.users.gender)),
            "age_group": pa.array(names["age_group"]).take(pa.array(shown.users.age)),
            "inventory_id": pa.array(names["inventory_id"]).take(pa.array(shown.inventory)),
            "day_of_week": pa.array(names["day_of_week"]).take(pa.array(np.minimum(shown.day, 6))),
            "hour": pa.array(names["hour"]).take(pa.array(shown.hour)),
            "seq": as_strings(events),
        }
        numbers = self.ads.columns(shown.ad_set, shown.creative)
        numbers |= user_columns(draws, shown.users) | feature_columns(draws, shown.users, row)
        is_usual = draws.uniform("l_feat_25", row) < 0.55
        other = 1 + (1788 * draws.uniform("l_feat_25b", row) ** 2).astype(np.int64)
        numbers["l_feat_25"] = np.where(is_usual, 1129, other)
        numbers["l_feat_26"], numbers["l_feat_27"] = shown.slot, shown.ad_format
        rate_e3 = columns.TEST_NULL_RATE_E3 if self._is_test else columns.NULL_RATE_E3
        nulls = dict.fromkeys(columns.NULL_BLOCK_1, shown.is_null_1)
        nulls |= dict.fromkeys(columns.NULL_BLOCK_2, shown.is_null_2)
        nulls["feat_e_3"] = draws.uniform("null_e3", row) < rate_e3
        for name in columns.NUMBERS:
            found[name] = pa.array(numbers[name].astype(np.float32), mask=nulls.get(name))
        for name in ("gender", "age_group"):
            found[name] = pc.if_else(pa.array(shown.is_null_1), None, found[name])
        assert all(len(values) == n for values in found.values())
        return pa.table({name: found[name] for name in columns.FEATURES})

    def events(self, shown: Impressions, most: int | None = None) -> Events:
        """The events of the impressions' users, cut to the `most` last where asked."""
        lengths = self.sequences.lengths(shown.users, shown.row)
        return self.sequences.events(shown.users, shown.row, lengths if most is None else np.minimum(lengths, most))


@dataclass(frozen=True)
class ClickModel:
    """Turns impressions into true click probabilities, once a pilot sample has set its two scales."""

    match_mean: float
    match_sd: float
    intercept: float
    seq_strength: float

    def probability(self, shown: Impressions, match: np.ndarray) -> np.ndarray:
        """[n] float64."""
        standard = (match - self.match_mean) / self.match_sd
        return expit(shown.logit + self.seq_strength * standard + self.intercept)


def fit_click_model(maker: ImpressionMaker, seq_strength: float, base_rate: float) -> ClickModel:
    """Standardises the match and solves for the intercept that gives the base rate, on a sample of fixed size."""
    # Places of a far larger split, so that few share a user: shared ones would make the sample count for less.
    pilot = ImpressionMaker(maker._seed, 16 * N_PILOT, maker._is_test, N_PILOT)
    logits, matches = [], []
    for start in range(0, N_PILOT, _PILOT_BLOCK):
        shown = pilot.impressions(np.arange(start, start + _PILOT_BLOCK))
        logits.append(shown.logit)
        matches.append(pilot.match(shown, pilot.events(shown, MATCH_LENGTH)))
    match = np.concatenate(matches)
    mean, sd = float(match.mean()), float(match.std())
    rest = np.concatenate(logits) + seq_strength * (match - mean) / sd
    intercept = brentq(lambda value: expit(rest + value).mean() - base_rate, -20, 20)
    return ClickModel(mean, sd, float(intercept), seq_strength)
