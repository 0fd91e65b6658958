"""Published statistics of the Toss ad-click data: columns, shares, click rates and quantiles.

Rates and shares are in percent. Source: write-ups of the competition.
"""

import numpy as np

BASE_RATE = 0.019075
TEST_BASE_RATE = 0.01787

GENDER = {"1.0": (63.0, 1.95), "2.0": (37.0, 1.84)}
"""value: (share, click rate)."""
AGE = {
    "1.0": (0.27, 6.65),
    "2.0": (3.4, 2.23),
    "3.0": (4.5, 1.93),
    "4.0": (5.2, 1.87),
    "5.0": (5.5, 1.73),
    "6.0": (21.7, 1.65),
    "7.0": (34.6, 1.75),
    "8.0": (24.7, 2.29),
}
INVENTORY = {
    "2": (24.5, 0.88),
    "36": (14.2, 1.51),
    "37": (13.1, 2.99),
    "29": (9.5, 2.12),
    "42": (9.4, 2.22),
    "46": (7.7, 1.62),
    "88": (6.3, 3.82),
    "43": (4.2, 1.54),
    "31": (4.1, 2.29),
    "11": (3.0, 1.11),
    "41": (2.2, 3.61),
    "91": (0.94, 2.69),
    "39": (0.33, 1.73),
    "19": (0.24, 1.63),
    "8": (0.20, 0.72),
    "95": (0.05, 1.9),
    "92": (0.02, 6.1),
    "21": (0.01, 6.3),
}
DAY_CLICKS = (25_483, 32_022, 29_921, 30_297, 29_839, 30_282, 26_335)
DAY_NEGATIVES = 1_500_000
DAYS = {
    str(day + 1): (100 * (DAY_NEGATIVES + clicks) / 10_704_179, 100 * clicks / (DAY_NEGATIVES + clicks))
    for day, clicks in enumerate(DAY_CLICKS)
}
# Three hours are published (03, 08 and 10); the others are a smooth curve through them.
_HOUR_SHARE = [2.6, 1.6, 1.0, 0.735, 0.80, 1.4, 3.4, 5.9, 7.06, 6.5, 5.8, 5.5]
_HOUR_SHARE += [5.9, 5.6, 5.1, 4.9, 4.8, 4.9, 5.2, 5.2, 5.0, 4.6, 3.9, 3.4]
_HOUR_RATE = [2.02, 2.12, 2.22, 2.31, 2.24, 2.10, 1.95, 1.84, 1.78, 1.73, 1.70, 1.76]
_HOUR_RATE += [1.84, 1.87, 1.88, 1.90, 1.91, 1.93, 1.95, 1.97, 1.99, 2.01, 2.02, 2.02]
HOURS = {f"{hour:02d}": (_HOUR_SHARE[hour], _HOUR_RATE[hour]) for hour in range(24)}

L_FEAT = tuple(f"l_feat_{k}" for k in range(1, 28))
USER_L_FEAT = (2, 8, 18, 19, 20, 21, 22, 23, 24)
FEAT_E, FEAT_D, FEAT_C, FEAT_B, FEAT_A = (
    tuple(f"feat_{letter}_{k}" for k in range(1, n + 1))
    for letter, n in (("e", 10), ("d", 6), ("c", 8), ("b", 6), ("a", 18))
)
HISTORY_A = tuple(f"history_a_{k}" for k in range(1, 8))
HISTORY_B = tuple(f"history_b_{k}" for k in range(1, 31))
TEXT = ("gender", "age_group", "inventory_id", "day_of_week", "hour", "seq")
NUMBERS = L_FEAT + FEAT_E + FEAT_D + FEAT_C + FEAT_B + FEAT_A + HISTORY_A + HISTORY_B
FEATURES = TEXT + NUMBERS
LABEL = "clicked"
USER_ID = "user_id"
"""Not a column of the real data: see `GeneratorConfig.user_id`."""

NULL_BLOCK_1 = (
    "gender",
    "age_group",
    *(f"l_feat_{k}" for k in USER_L_FEAT),
    *(name for name in FEAT_E if name != "feat_e_3"),
    *FEAT_B,
    *FEAT_C,
    *FEAT_D,
    *HISTORY_A,
    *HISTORY_B,
)
NULL_BLOCK_2 = FEAT_A
NULL_RATE_1, NULL_RATE_2 = 0.00161, 0.00174
NULL_RATE_E3, TEST_NULL_RATE_E3 = 0.1014, 0.053
NULL_CLICK_RATE = 2.8

HISTORY_B_WEIGHT = np.array(
    [
        *(41, 89, 30.5, 32.5, 17, 1, 16, 33, 3, 18, 46.5, 4.5, 18.5, 37.5, 0.5),
        *(46.5, 10.5, 7.5, 6.5, 1.5, 5.5, 45, 45, 7.5, 3, 28, 32, 10, 26, 33),
    ]
)
SMOOTHED_RATE = (0.0, 0.00117, 0.00206, 0.0046, 1.0)
"""min, quartiles and max of the per-user rate s; every history_b is a multiple of s."""

# Quantiles between the published ones are chosen to give the published mean and standard deviation.
SEQ_LENGTH_LEVELS = (
    *(0.0, 0.0055, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
    *(0.83, 0.90, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0),
)
SEQ_LENGTHS = (1, 1, 78, 182, 299, 439, 593, 780, 937, 1125, 1330, 1610, 1847, 2600, 4000, 14_441)
SEQ_LENGTH_RATES = {5: 4.6, 17: 3.8, 37: 2.8, 75: 2.5, 175: 2.05, 375: 1.8, 750: 1.7, 1400: 1.15}
"""Length: click rate around this length; the last rate is derived from the published ones."""
SINGLE_EVENT_TOKEN, SINGLE_EVENT_TOKEN_SHARE = 144, 1 / 3
"""The token of many sequences of one event, and the share of these sequences."""

QUANTILES = {
    "feat_e_1": (0.36, 63.6, 65, 65, 65),
    "feat_e_2": (-3.1e5, -3852, -2288, -852, 1.8e4),
    "feat_e_3": (1.14, 3.41, 5.45, 10.2, 170),
    "feat_e_4": (-0.06, -0.052, -0.05, -0.048, -0.04),
    "feat_e_5": (-2.4, -0.098, -0.02, 0.02, 0.02),
    "feat_e_6": (-1.7, -0.09, -0.04, -0.013, 0.013),
    "feat_e_7": (0, 3.3, 21, 59, 1277),
    "feat_e_8": (-784, -264, -172, -90, 0),
    "feat_e_9": (-588, -25, -10, -2.3, 0),
    "feat_e_10": (-2392, -435, -269, -133, 0),
    "feat_d_4": (0, 2.1, 6, 13.8, 78),
    "feat_b_1": (0, 3.75, 4.34, 4.62, 2066),
    "feat_b_2": (-278, -4.3, -3.4, -0.2, 0),
    "feat_b_3": (0, 6, 18, 36, 1173),
    "feat_b_4": (0, 0.80, 0.91, 0.93, 1.32),
    "feat_b_5": (-979, -71, -42, -16, 0),
    "feat_b_6": (0, 420, 1171, 2070, 86_992),
    "feat_a_5": (0, 0, 0, 68.4, 86.8),
    "feat_a_6": (0, 0, 0, 11.4, 60),
    "feat_a_14": (0, 1.67, 2.90, 3.83, 7.0),
}
"""min, lower quartile, median, upper quartile, max."""
FEAT_C_MAX = (58.85, 36, 83, 29, 47, 8, 74, 32)
FEAT_D_UNIT = {"feat_d_1": 77, "feat_d_2": 15, "feat_d_3": 17, "feat_d_5": -99, "feat_d_6": -71}
"""A feat_d is k / unit, with a count k <= 30."""
