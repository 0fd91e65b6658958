"""Users as functions of their number, so that no table of users is stored."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from recsys.data.rows import Permutation
from recsys.synthetic import columns
from recsys.synthetic.ads import D_INTEREST
from recsys.synthetic.draws import Draws, draw_categorical, from_quantiles

_IMPRESSIONS = (3, 4, 5)
_USER_OF_SLOT = np.repeat(np.arange(len(_IMPRESSIONS)), _IMPRESSIONS)
"""Twelve slots belong to three users, with three, four and five impressions."""
_INTEREST_SCALE = 0.9
_RATE_ON_ACTIVITY, _RATE_ON_RESPONSE = -0.45, 0.5
_TASTE_SD = np.sqrt(0.75**2 + 0.4**2 + 2 * 0.75 * 0.4 * _RATE_ON_RESPONSE)
TASTE_ON_ACTIVITY = 0.4 * _RATE_ON_ACTIVITY / _TASTE_SD
"""Slope of taste on activity A."""


@dataclass(frozen=True)
class Users:
    """The users of n impressions."""

    number: np.ndarray
    """[n] user numbers."""
    activity: np.ndarray
    """[n] A, standard normal."""
    responsiveness: np.ndarray
    """[n] R, standard normal."""
    rate: np.ndarray
    """[n] s, the smoothed rate of past clicks."""
    taste: np.ndarray
    """[n] click propensity that the history columns reveal: standard normal, a function of R and s."""
    interest: np.ndarray
    """[n, 8] interests u."""
    gender: np.ndarray
    """[n] index into `columns.GENDER`."""
    age: np.ndarray
    """[n] index into `columns.AGE`."""


def user_of_row(n_rows: int, seed: int, first_user: int, row: np.ndarray) -> np.ndarray:
    """[n] user numbers; a user has three to five impressions, scattered over all rows."""
    slot = Permutation(n_rows, seed, first_user)(row)
    return first_user + slot // len(_USER_OF_SLOT) * len(_IMPRESSIONS) + _USER_OF_SLOT[slot % len(_USER_OF_SLOT)]


def n_users(n_rows: int) -> int:
    """Upper bound of the number of users of n impressions."""
    return (n_rows // len(_USER_OF_SLOT) + 1) * len(_IMPRESSIONS)


def make_users(draws: Draws, number: np.ndarray) -> Users:
    """Generates users from their [n] numbers."""
    activity, responsiveness = draws.normal("activity", number), draws.normal("respond", number)
    # s decreases with A. R and s are positively correlated, but only R sets the small integers of history_b.
    residual = np.sqrt(1 - _RATE_ON_ACTIVITY**2 - _RATE_ON_RESPONSE**2) * draws.normal("rate", number)
    level = _RATE_ON_ACTIVITY * activity + _RATE_ON_RESPONSE * responsiveness + residual
    median, sd = np.log(columns.SMOOTHED_RATE[2]), 1.0
    rate = np.minimum(np.exp(median + sd * level), 1.0)
    taste = (0.75 * responsiveness + 0.4 * level) / _TASTE_SD
    return Users(
        number=number,
        activity=activity,
        responsiveness=responsiveness,
        rate=rate,
        taste=taste,
        interest=_INTEREST_SCALE * draws.normals("interest", number, D_INTEREST),
        gender=draw_categorical(
            np.array([share for share, _ in columns.GENDER.values()]), draws.uniform("gender", number)
        ),
        age=draw_categorical(np.array([share for share, _ in columns.AGE.values()]), draws.uniform("age", number)),
    )


def user_columns(draws: Draws, users: Users) -> dict[str, np.ndarray]:
    """Returns the user-side l_feat and history columns, [n] each."""
    values = {f"l_feat_{k}": (draws.uniform(f"l_feat_{k}", users.number) < 0.5) + 1.0 for k in (2, 19, 21, 22, 24)}
    values["l_feat_8"] = 2.0 - (draws.uniform("l_feat_8", users.number) < 0.006)
    values["l_feat_18"] = np.floor(
        7 * ndtr(0.5 * users.activity + draws.normal("l_feat_18", users.number)).clip(0, 0.999)
    )
    values["l_feat_20"] = np.full(len(users.number), 2.0)
    values["l_feat_23"] = np.ones(len(users.number))

    # All history_b share a small integer of R. It rarely differs by one in a column: pairs correlate above 0.995.
    count = 1 + np.floor(1.2 * np.exp(0.75 * users.responsiveness))
    is_higher = draws.uniform("differs", users.number[:, None] * 30 + np.arange(30)) < 0.02
    integer = np.minimum(count[:, None] + is_higher, 30)
    history_b = columns.HISTORY_B_WEIGHT * integer * users.rate[:, None]
    values |= {name: history_b[:, k] for k, name in enumerate(columns.HISTORY_B)}

    noise = draws.normal("history_a_1", users.number)
    values["history_a_1"] = np.minimum(0.05 * np.exp(0.85 * (0.95 * users.taste + 0.31 * noise)), 18.7)
    # Activity lowers these counts and raises the volume: history_a_3 and history_a_4 are positively correlated.
    log_clicks = 0.5 * users.taste - 0.83 * users.activity + 0.2 * draws.normal("history_k", users.number)
    clicks = np.floor(np.exp(1.0 + 0.8 * log_clicks))
    values["history_a_2"] = -np.maximum(clicks - 1, 0) / 18
    values["history_a_3"] = np.maximum(clicks, 0) / 82 * (draws.uniform("history_z", users.number) > 0.1)
    values["history_a_5"] = -np.maximum(clicks - 2, 0) / 69
    volume = np.exp(0.5 * users.activity + 0.1 * draws.normal("volume", users.number))
    values |= {f"history_a_{k}": -median * volume for k, median in ((4, 280), (6, 139), (7, 9.75))}
    return values


def feature_columns(draws: Draws, users: Users, row: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the feat_* columns, [n] each: inverse distribution functions under a Gaussian copula.

    The columns of a group share a factor, which gives their published correlations. d, c, b_4 and e_1 also load on A;
    d, b_4 and e_1 load negatively on the click propensity. A user's factors change slightly between impressions.
    """

    def factor(name: str, on_activity: float, on_taste: float) -> np.ndarray:
        residual = 0.95 * draws.normal(f"f_{name}", users.number) + 0.31 * draws.normal(f"r_{name}", row)
        explained = on_activity**2 + on_taste**2 + 2 * on_activity * on_taste * TASTE_ON_ACTIVITY
        return on_activity * users.activity + on_taste * users.taste + np.sqrt(1 - explained) * residual

    def member(name: str, shared: np.ndarray, loading: float) -> np.ndarray:
        return loading * shared + np.sqrt(1 - loading**2) * draws.normal(f"m_{name}", row)

    factors = {
        name: factor(name, on_activity, on_taste)
        for name, on_activity, on_taste in (
            ("e79", 0.2, 0), ("e810", -0.2, 0), ("b35", 0.3, 0), ("c", 0.7, 0), ("d", 0.75, -0.45), ("a34", 0.1, 0),
            ("a67", 0.1, 0), ("lone", 0, 0),
        )
    }  # fmt: skip
    shared: dict[str, tuple[str, float]] = {
        "feat_e_7": ("e79", 0.99), "feat_e_9": ("e79", -0.99), "feat_e_8": ("e810", 0.98), "feat_e_10": ("e810", 0.98),
        "feat_b_3": ("b35", 0.99), "feat_b_5": ("b35", -0.99), "feat_a_6": ("a67", 0.94), "feat_a_7": ("a67", 0.94),
        "feat_a_3": ("a34", 0.92), "feat_a_4": ("a34", 0.92), "feat_e_1": ("d", 0.95), "feat_b_4": ("d", 0.95),
    }  # fmt: skip
    shared |= {name: ("c", 0.94 if k in (0, 3, 6) else 0.6) for k, name in enumerate(columns.FEAT_C)}
    shared |= dict.fromkeys(columns.FEAT_D, ("d", 0.9))
    values = {}
    for name in columns.FEAT_E + columns.FEAT_D + columns.FEAT_C + columns.FEAT_B + columns.FEAT_A:
        factor_name, loading = shared.get(name, ("lone", 0.2))
        if name in ("feat_b_1", "feat_b_2"):  # these two follow the click propensity
            uniform = ndtr(member(name, users.taste, 0.9))
        else:
            uniform = ndtr(member(name, factors[factor_name], loading))
        values[name] = _inverse(name, uniform)
    return values


def _inverse(name: str, uniform: np.ndarray) -> np.ndarray:
    if name in columns.QUANTILES:
        return from_quantiles(columns.QUANTILES[name], uniform)
    if name in columns.FEAT_D_UNIT:  # saturates: a third of users have the maximum
        return np.minimum(np.floor(45 * uniform), 30) / columns.FEAT_D_UNIT[name]
    if name in columns.FEAT_C:
        maximum = columns.FEAT_C_MAX[columns.FEAT_C.index(name)]
        if name == "feat_c_2":
            return from_quantiles((0, 0.1, 0.48, 2.5, maximum), uniform)
        return from_quantiles((0, 0.75 * maximum, 0.93 * maximum, 0.99 * maximum, maximum), uniform)
    return np.where(uniform < 0.78, 0.0, 5.0 * (uniform - 0.78) / 0.22)  # feat_a: zero-inflated
