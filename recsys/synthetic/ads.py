"""The ads: campaigns that hold ad sets that hold creatives, with vectors, popularity and the ad-side columns."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys.synthetic.draws import Draws, pick

N_CAMPAIGNS, N_AD_SETS, N_CREATIVES = 1524, 3237, 5050
D_INTEREST = 8
N_AD_TYPES = 26
"""Values of l_feat_4."""
POPULARITY_SIGMA, BIAS_SD = 2.9, 0.3
N_DAYS = 8  # seven of training, and the test day
_N_TEST_ONLY, _N_ALWAYS = 40, 24
_VECTOR_SCALE = 1.4
_N_CANDIDATES = 32
_VARYING_RATE = 0.004


@dataclass(frozen=True)
class AdCatalog:
    """All ad sets and creatives. A ad sets, C creatives."""

    vector: np.ndarray
    """[A, 8] what an ad set is about: its campaign's vector plus its own."""
    popularity: np.ndarray
    """[N_DAYS, A] weights by day; zero where an ad set is not active."""
    bias: np.ndarray
    """[A] in logits."""
    first_creative: np.ndarray
    """[A + 1] creatives of ad set a: first_creative[a] .. first_creative[a + 1] - 1."""
    set_columns: dict[str, np.ndarray]
    """Column: [A] float32 value of each ad set."""
    creative_columns: dict[str, np.ndarray]
    """Column: [C] float32 value of each creative."""

    def draw_ad_sets(self, draws: Draws, row: np.ndarray, day: np.ndarray, interest: np.ndarray) -> np.ndarray:
        """[n] ad sets, in proportion to popularity x exp(u . v).

        Several are drawn by popularity and one of them is taken by exp(u . v): sampling-importance resampling (Rubin,
        1987), near the product for this many.

        Args:
            draws: streams.
            row: [n] row numbers.
            day: [n] 0 .. N_DAYS - 1.
            interest: [n, 8] u.
        """
        slot = row[:, None] * _N_CANDIDATES + np.arange(_N_CANDIDATES)
        chance = draws.uniform("candidate", slot)
        candidates = np.empty(slot.shape, np.int64)
        for value in np.unique(day):
            mine = day == value
            candidates[mine] = pick(self.popularity[value], chance[mine])
        affinity = np.einsum("nd,nkd->nk", interest, self.vector[candidates])
        gumbel = -np.log(-np.log(draws.uniform("gumbel", slot) + 2.0**-54))
        best = np.argmax(affinity + gumbel, axis=1)
        return candidates[np.arange(len(row)), best]

    def draw_creatives(self, draws: Draws, row: np.ndarray, ad_set: np.ndarray) -> np.ndarray:
        """[n] creatives of the ad sets, the first ones more often."""
        n = self.first_creative[ad_set + 1] - self.first_creative[ad_set]
        return self.first_creative[ad_set] + (n * draws.uniform("creative", row) ** 2).astype(np.int64)

    def columns(self, ad_set: np.ndarray, creative: np.ndarray) -> dict[str, np.ndarray]:
        """The ad-side columns of [n] impressions."""
        by_set = {name: values[ad_set] for name, values in self.set_columns.items()}
        return by_set | {name: values[creative] for name, values in self.creative_columns.items()}


def _assign(draws: Draws, stream: str, n_children: int, n_parents: int, most: int) -> np.ndarray:
    """[n_children] parents, rising; every parent has one child, and a few have many, `most` at most."""
    weight = np.exp(1.6 * draws.normal(f"{stream}w", np.arange(n_parents)))
    extra = np.minimum(np.floor(weight / weight.sum() * (n_children - n_parents)), most - 1).astype(np.int64)
    spare = n_children - n_parents - extra.sum()
    for parent in np.argsort(-weight, kind="stable"):  # what rounding and the cap left over
        room = min(spare, most - 1 - extra[parent], 3)
        extra[parent] += room
        spare -= room
    return np.repeat(np.arange(n_parents), extra + 1)


def make_ad_catalog(draws: Draws) -> AdCatalog:
    """The ads of a seed."""
    sets, creatives = np.arange(N_AD_SETS), np.arange(N_CREATIVES)
    campaign = _assign(draws, "campaign", N_AD_SETS, N_CAMPAIGNS, 100)
    set_of_creative = _assign(draws, "adset", N_CREATIVES, N_AD_SETS, 48)

    direction = draws.normals("campaignv", np.arange(N_CAMPAIGNS), D_INTEREST)[campaign]
    vector = _VECTOR_SCALE * (0.8 * direction + 0.6 * draws.normals("adsetv", sets, D_INTEREST)) / np.sqrt(D_INTEREST)
    # Ranks, not draws: with a sigma this large the biggest of so few draws could take half of all impressions.
    rank = np.argsort(np.argsort(draws.bits("popular", sets)))
    weight = np.exp(POPULARITY_SIGMA * ndtri((rank + 0.5) / N_AD_SETS))
    start = np.floor(draws.uniform("start", sets) * 14 - 10)
    length = 5 + np.floor(draws.uniform("days", sets) * 14)
    days = np.arange(N_DAYS)[:, None]
    is_active = ((days >= start) & (days < start + length)) | (rank >= N_AD_SETS - _N_ALWAYS)
    # Some ad sets are new on the test day, and popularity shifts a little there. The biggest are no newcomers.
    newcomers = np.argsort(rank)[N_AD_SETS // 2 : N_AD_SETS // 2 + 20 * _N_TEST_ONLY : 20]
    is_active[:, newcomers] = False
    is_active[-1, newcomers] = True
    popularity = weight * is_active
    popularity[-1] *= np.exp(0.4 * draws.normal("shift", sets))

    l1 = 1 + campaign % 2
    l9 = 1 + campaign % 476
    mixed = draws.bits("mixed", sets)
    l4, l15 = mixed % np.uint64(N_AD_TYPES), sets % 2582
    # Sets whose l_feat_4 and 15 their creatives do not share: the first keeps the set's, so that none goes missing.
    has_several = np.bincount(set_of_creative) > 1
    varies = has_several & (draws.uniform("varies", sets) < _VARYING_RATE / has_several.mean())
    is_first = np.diff(set_of_creative, prepend=-1) > 0
    varies_here = varies[set_of_creative] & ~is_first
    own = draws.bits("own", creatives)
    shuffled = np.argsort(own)
    set_columns = {
        "l_feat_1": l1,
        "l_feat_9": l9,
        "l_feat_10": 1 + campaign % 262,
        "l_feat_11": 1 + campaign,
        "l_feat_13": 1 + (mixed >> np.uint64(8)) % np.uint64(2),
        "l_feat_14": 1 + sets,
        "l_feat_16": 3 - l1,
        "l_feat_17": l9,
    }
    creative_columns = {
        "l_feat_3": 1 + own % np.uint64(3),
        "l_feat_4": 1 + np.where(varies_here, own % np.uint64(N_AD_TYPES), l4[set_of_creative]),
        "l_feat_5": 1 + creatives % 1076,
        "l_feat_6": 1 + shuffled % 900,
        "l_feat_7": 1 + shuffled[::-1] % 313,
        "l_feat_12": 1 + creatives,
        "l_feat_15": 1 + np.where(varies_here, creatives % 2582, l15[set_of_creative]),
    }
    return AdCatalog(
        vector=vector,
        popularity=popularity,
        bias=BIAS_SD * draws.normal("bias", sets),
        first_creative=np.searchsorted(set_of_creative, np.arange(N_AD_SETS + 1)),
        set_columns={name: values.astype(np.float32) for name, values in set_columns.items()},
        creative_columns={name: values.astype(np.float32) for name, values in creative_columns.items()},
    )
