"""Ads: campaigns contain ad sets, which contain creatives; with vectors, popularity and ad-side columns.

Shapes: I ad sets (the items of the catalog), C creatives.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys.synthetic.draws import Draws, draw_categorical

N_CAMPAIGNS, N_AD_SETS, N_CREATIVES = 1524, 3237, 5050
D_INTEREST = 8
N_AD_TYPES = 26
"""Number of values of l_feat_4."""
POPULARITY_SIGMA, BIAS_SD = 2.9, 0.3
N_DAYS = 8  # seven training days and the test day
_N_TEST_ONLY, _N_ALWAYS = 40, 24
_VECTOR_SCALE = 1.4
_N_CANDIDATES = 32
_VARYING_RATE = 0.004


@dataclass(frozen=True)
class AdCatalog:
    """All ad sets and creatives."""

    vector: np.ndarray
    """[I, 8] interest vector v: the campaign's vector plus a vector of the ad set."""
    popularity: np.ndarray
    """[N_DAYS, I] weights by day; zero where an ad set is not active."""
    bias: np.ndarray
    """[I] in logits."""
    first_creative: np.ndarray
    """[I + 1] creatives of ad set i: first_creative[i] .. first_creative[i + 1] - 1."""
    set_columns: dict[str, np.ndarray]
    """Column name: [I] float32 values of the ad sets."""
    creative_columns: dict[str, np.ndarray]
    """Column name: [C] float32 values of the creatives."""

    def draw_ad_sets(self, draws: Draws, row: np.ndarray, day: np.ndarray, interest: np.ndarray) -> np.ndarray:
        """Draws [n] ad sets in proportion to popularity x exp(u . v).

        Draws candidates by popularity and selects one of them by exp(u . v): sampling-importance resampling (Rubin,
        1987), which approximates the product well for this number of candidates.

        Args:
            draws: random streams.
            row: [n] row numbers.
            day: [n] 0 .. N_DAYS - 1.
            interest: [n, 8] user interests u.
        """
        candidate_index = row[:, None] * _N_CANDIDATES + np.arange(_N_CANDIDATES)
        uniform = draws.uniform("candidate", candidate_index)
        candidates = np.empty(candidate_index.shape, np.int64)
        for value in np.unique(day):
            is_day = day == value
            candidates[is_day] = draw_categorical(self.popularity[value], uniform[is_day])
        affinity = np.einsum("nd,nkd->nk", interest, self.vector[candidates])
        gumbel = -np.log(-np.log(draws.uniform("gumbel", candidate_index) + 2.0**-54))
        selected = np.argmax(affinity + gumbel, axis=1)
        return candidates[np.arange(len(row)), selected]

    def draw_creatives(self, draws: Draws, row: np.ndarray, ad_set: np.ndarray) -> np.ndarray:
        """Draws [n] creatives of the ad sets; the first ones are more frequent."""
        n = self.first_creative[ad_set + 1] - self.first_creative[ad_set]
        return self.first_creative[ad_set] + (n * draws.uniform("creative", row) ** 2).astype(np.int64)

    def columns(self, ad_set: np.ndarray, creative: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the ad-side columns of [n] impressions."""
        by_set = {name: values[ad_set] for name, values in self.set_columns.items()}
        return by_set | {name: values[creative] for name, values in self.creative_columns.items()}


def _assign(draws: Draws, stream: str, n_children: int, n_parents: int, max_children: int) -> np.ndarray:
    """Assigns [n_children] ascending parents; each has 1 to `max_children` children, and a few have many."""
    weight = np.exp(1.6 * draws.normal(f"{stream}w", np.arange(n_parents)))
    extra = np.minimum(np.floor(weight / weight.sum() * (n_children - n_parents)), max_children - 1).astype(np.int64)
    n_unassigned = n_children - n_parents - extra.sum()
    for parent in np.argsort(-weight, kind="stable"):  # children left over by rounding and the maximum
        n_added = min(n_unassigned, max_children - 1 - extra[parent], 3)
        extra[parent] += n_added
        n_unassigned -= n_added
    return np.repeat(np.arange(n_parents), extra + 1)


def make_ad_catalog(draws: Draws) -> AdCatalog:
    """Generates the ads of a seed."""
    sets, creatives = np.arange(N_AD_SETS), np.arange(N_CREATIVES)
    campaign = _assign(draws, "campaign", N_AD_SETS, N_CAMPAIGNS, 100)
    set_of_creative = _assign(draws, "adset", N_CREATIVES, N_AD_SETS, 48)

    direction = draws.normals("campaignv", np.arange(N_CAMPAIGNS), D_INTEREST)[campaign]
    vector = _VECTOR_SCALE * (0.8 * direction + 0.6 * draws.normals("adsetv", sets, D_INTEREST)) / np.sqrt(D_INTEREST)
    # Ranks, not draws: with a sigma this large, the largest of so few draws could take half of all impressions.
    rank = np.argsort(np.argsort(draws.bits("popular", sets)))
    weight = np.exp(POPULARITY_SIGMA * ndtri((rank + 0.5) / N_AD_SETS))
    start = np.floor(draws.uniform("start", sets) * 14 - 10)
    length = 5 + np.floor(draws.uniform("days", sets) * 14)
    days = np.arange(N_DAYS)[:, None]
    is_active = ((days >= start) & (days < start + length)) | (rank >= N_AD_SETS - _N_ALWAYS)
    # Some ad sets are new on the test day, and popularity shifts slightly. The most popular ad sets are not new.
    new_sets = np.argsort(rank)[N_AD_SETS // 2 : N_AD_SETS // 2 + 20 * _N_TEST_ONLY : 20]
    is_active[:, new_sets] = False
    is_active[-1, new_sets] = True
    popularity = weight * is_active
    popularity[-1] *= np.exp(0.4 * draws.normal("shift", sets))

    l1 = 1 + campaign % 2
    l9 = 1 + campaign % 476
    set_bits = draws.bits("mixed", sets)
    l4, l15 = set_bits % np.uint64(N_AD_TYPES), sets % 2582
    # Ad sets whose creatives differ in l_feat_4 and l_feat_15. The first creative keeps
    # the values of the ad set, so that every value occurs.
    has_several = np.bincount(set_of_creative) > 1
    varies = has_several & (draws.uniform("varies", sets) < _VARYING_RATE / has_several.mean())
    is_first = np.diff(set_of_creative, prepend=-1) > 0
    creative_varies = varies[set_of_creative] & ~is_first
    creative_bits = draws.bits("own", creatives)
    shuffled = np.argsort(creative_bits)
    set_columns = {
        "l_feat_1": l1,
        "l_feat_9": l9,
        "l_feat_10": 1 + campaign % 262,
        "l_feat_11": 1 + campaign,
        "l_feat_13": 1 + (set_bits >> np.uint64(8)) % np.uint64(2),
        "l_feat_14": 1 + sets,
        "l_feat_16": 3 - l1,
        "l_feat_17": l9,
    }
    creative_columns = {
        "l_feat_3": 1 + creative_bits % np.uint64(3),
        "l_feat_4": 1 + np.where(creative_varies, creative_bits % np.uint64(N_AD_TYPES), l4[set_of_creative]),
        "l_feat_5": 1 + creatives % 1076,
        "l_feat_6": 1 + shuffled % 900,
        "l_feat_7": 1 + shuffled[::-1] % 313,
        "l_feat_12": 1 + creatives,
        "l_feat_15": 1 + np.where(creative_varies, creatives % 2582, l15[set_of_creative]),
    }
    return AdCatalog(
        vector=vector,
        popularity=popularity,
        bias=BIAS_SD * draws.normal("bias", sets),
        first_creative=np.searchsorted(set_of_creative, np.arange(N_AD_SETS + 1)),
        set_columns={name: values.astype(np.float32) for name, values in set_columns.items()},
        creative_columns={name: values.astype(np.float32) for name, values in creative_columns.items()},
    )
