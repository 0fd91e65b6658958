"""App-event sequences: sticky topics that a user's interests choose, tokens by Zipf within a topic, as strings."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from recsys.generator import columns
from recsys.generator.ads import D_INTEREST
from recsys.generator.draws import Draws
from recsys.generator.users import Users

N_TOPICS, N_TOKENS = 12, 561
MATCH_LENGTH = 50
_SWITCH_PROB, _REPEAT_PROB = 0.06, 0.25
_ZIPF, _STRAY_PROB = 1.6, 0.01
_LUT_SIZE = 4096
_BASE_VERSION_PROB = 0.42
_TOPIC_SHARPNESS, _MATCH_SHARPNESS = 2.2, 2.0
_MAX_LENGTH = 1 << 14


@dataclass(frozen=True)
class Events:
    """The events of n rows end to end, each row's most recent event FIRST."""

    topic: np.ndarray
    """[total] uint8."""
    token: np.ndarray
    """[total] uint16."""
    offsets: np.ndarray
    """[n + 1]."""


class SequenceMaker:
    """Draws the sequences of a seed.

    Args:
        draws: streams.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self.topic_vector = draws.normals("topicv", np.arange(N_TOPICS), D_INTEREST)
        """[12, 8] what each topic is about."""
        self._token_table = _token_table(draws)

    def lengths(self, users: Users, row: np.ndarray) -> np.ndarray:
        """[n] events, rising with activity; a user's rows differ a little unless they share their string."""
        key = self._key(users, row)
        uniform = ndtr(0.98 * users.activity + 0.199 * self._draws.normal("length", key))
        return np.interp(uniform, columns.SEQ_LENGTH_LEVELS, columns.SEQ_LENGTHS).astype(np.int64)

    def events(self, users: Users, row: np.ndarray, lengths: np.ndarray) -> Events:
        """The last `lengths` events of [n] rows."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        owner = np.repeat(np.arange(len(row)), lengths)
        position = np.arange(offsets[-1]) - offsets[owner]
        key = self._key(users, row).astype(np.uint64)
        bits = self._draws.bits("event", key[owner] * np.uint64(_MAX_LENGTH) + position.astype(np.uint64))
        field = (bits & np.uint64(0xFFFF)).astype(np.float32) / 65_536
        is_switch = (field < _SWITCH_PROB) | (position == 0)
        # A topic lasts until the next switch, and a token until it is not repeated.
        place = np.arange(len(bits))
        since_switch = np.maximum.accumulate(np.where(is_switch, place, 0))
        mixture = np.cumsum(self._mixture(users.interest), axis=1)
        starts = np.flatnonzero(is_switch)
        chance = ((bits[starts] >> np.uint64(16)) & np.uint64(0xFFFF)).astype(np.float64) / 65_536
        topic_at = np.zeros(len(bits), np.uint8)
        topic_at[starts] = np.minimum((mixture[owner[starts]] < chance[:, None]).sum(axis=1), N_TOPICS - 1)
        topic = topic_at[since_switch]
        repeats = ((bits >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.float32) / 65_536 < _REPEAT_PROB
        drawn_at = np.maximum.accumulate(np.where(is_switch | ~repeats, place, 0))
        slot = (bits[drawn_at] >> np.uint64(48)) & np.uint64(_LUT_SIZE - 1)
        return Events(topic, self._token_table[topic, slot], offsets)

    def match(self, events: Events, ad_vector: np.ndarray) -> np.ndarray:
        """[n] ln mean exp(2 m_t . v) over a row's last events: how much the ad answers some of them.

        Args:
            events: of n rows; at most MATCH_LENGTH of each are read.
            ad_vector: [n, 8].
        """
        length = np.diff(events.offsets)
        read = np.minimum(length, MATCH_LENGTH)
        owner = np.repeat(np.arange(len(length)), read)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(read) - read, read)
        topic = events.topic[events.offsets[:-1][owner] + position]
        counts = np.bincount(owner * N_TOPICS + topic, minlength=len(length) * N_TOPICS).reshape(-1, N_TOPICS)
        answer = np.exp(_MATCH_SHARPNESS * (ad_vector @ self.topic_vector.T) / np.sqrt(D_INTEREST))
        return np.log((counts * answer).sum(axis=1) / np.maximum(read, 1))

    def _mixture(self, interest: np.ndarray) -> np.ndarray:
        """[n, 12] shares of topics."""
        score = np.exp(_TOPIC_SHARPNESS * interest @ self.topic_vector.T / np.sqrt(D_INTEREST))
        return score / score.sum(axis=1, keepdims=True)

    def _key(self, users: Users, row: np.ndarray) -> np.ndarray:
        """[n] what a row's sequence depends on: its user alone, or the row itself."""
        is_base = self._draws.uniform("version", row) < _BASE_VERSION_PROB
        return np.where(is_base, 2 * users.number, 2 * row + 1)


def _token_table(draws: Draws) -> np.ndarray:
    """[12, 4096] uint16: a uniform slot of row t is a token of topic t, by Zipf, now and then of any topic."""
    table = np.empty((N_TOPICS, _LUT_SIZE), np.uint16)
    home = np.argsort(draws.uniform("home", np.arange(N_TOKENS)))
    for topic in range(N_TOPICS):
        own = home[topic::N_TOPICS]
        weight = np.full(N_TOKENS, _STRAY_PROB / N_TOKENS)
        zipf = np.arange(1, len(own) + 1) ** -_ZIPF
        weight[own] += (1 - _STRAY_PROB) * zipf / zipf.sum()
        edges = np.floor(np.cumsum(weight) / weight.sum() * _LUT_SIZE + 0.5).astype(np.int64)
        table[topic] = np.searchsorted(edges, np.arange(_LUT_SIZE), side="right").clip(max=N_TOKENS - 1)
    return table


def as_strings(events: Events) -> pa.Array:
    """[n] comma-joined token numbers, the most recent event LAST."""
    n, total = len(events.offsets) - 1, len(events.token)
    # Reversing the whole stretch reverses every row; the rows' order is put right by reading them from the end.
    token = events.token[::-1].astype(np.int64)
    ends = total - events.offsets[::-1]  # row n - 1 comes first
    width = _WIDTH[token] + 1
    width[ends[1:] - 1] -= 1  # no comma after a row's last
    byte_offsets = np.concatenate([[0], np.cumsum(width)])
    text = np.full(int(byte_offsets[-1]), ord(","), np.uint8)
    for digit in range(_DIGITS.shape[1]):
        mine = np.flatnonzero(_WIDTH[token] > digit)
        text[byte_offsets[mine] + digit] = _DIGITS[token[mine], digit]
    row_offsets = byte_offsets[ends]
    reversed_rows = pa.Array.from_buffers(
        pa.large_string(), n, [None, pa.py_buffer(row_offsets.astype(np.int64)), pa.py_buffer(text)]
    )
    return reversed_rows.take(pa.array(np.arange(n)[::-1]))


_WIDTH = np.array([len(str(number)) for number in range(N_TOKENS)])
_DIGITS = np.array([[ord(c) for c in str(number).ljust(3)] for number in range(N_TOKENS)], np.uint8)
