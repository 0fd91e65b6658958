"""App-event sequences as strings: persistent topics by user interest, Zipf-distributed tokens within a topic."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from recsys.data.jagged import offsets_of, row_and_position
from recsys.synthetic import columns
from recsys.synthetic.ads import D_INTEREST
from recsys.synthetic.draws import Draws
from recsys.synthetic.users import Users

N_TOPICS, N_TOKENS = 12, 561
MATCH_LENGTH = 50
_SWITCH_PROB, _REPEAT_PROB = 0.06, 0.1
_ZIPF, _STRAY_PROB = 1.75, 0.001
_LUT_SIZE = 4096
_BASE_VERSION_PROB = 0.42
_TOPIC_SHARPNESS, _MATCH_SHARPNESS = 3.0, 1.3
_MAX_LENGTH = 1 << 14


@dataclass(frozen=True)
class Events:
    """The concatenated events of n rows; the most recent event of a row is FIRST."""

    topic: np.ndarray
    """[total] uint8."""
    token: np.ndarray
    """[total] uint16."""
    offsets: np.ndarray
    """[n + 1]."""


class SequenceGenerator:
    """Generates the sequences of a seed.

    Args:
        draws: random streams.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self.topic_vector = draws.normals("topicv", np.arange(N_TOPICS), D_INTEREST)
        """[12, 8] topic vectors m."""
        shuffled_tokens = np.argsort(draws.uniform("home", np.arange(N_TOKENS)))
        self._token_table = _token_table(shuffled_tokens)
        self._lone_topic = int(np.flatnonzero(shuffled_tokens == columns.SINGLE_EVENT_TOKEN)[0]) % N_TOPICS

    def lengths(self, users: Users, row: np.ndarray) -> np.ndarray:
        """Draws [n] lengths that increase with activity; rows of a user differ slightly or share a sequence."""
        key = self._key(users, row)
        uniform = ndtr(0.98 * users.activity + 0.199 * self._draws.normal("length", key))
        return np.interp(uniform, columns.SEQ_LENGTH_LEVELS, columns.SEQ_LENGTHS).astype(np.int64)

    def events(self, users: Users, row: np.ndarray, lengths: np.ndarray) -> Events:
        """Generates the last `lengths` events of [n] rows."""
        offsets = offsets_of(lengths)
        row_index, position = row_and_position(lengths)
        key = self._key(users, row).astype(np.uint64)
        bits = self._draws.bits("event", key[row_index] * np.uint64(_MAX_LENGTH) + position.astype(np.uint64))
        switch_uniform = (bits & np.uint64(0xFFFF)).astype(np.float32) / 65_536
        is_switch = (switch_uniform < _SWITCH_PROB) | (position == 0)
        # A topic lasts until the next switch, and a token until the next event that does not repeat it.
        event_index = np.arange(len(bits))
        since_switch = np.maximum.accumulate(np.where(is_switch, event_index, 0))
        mixture = np.cumsum(self._mixture(users.interest), axis=1)
        switches = np.flatnonzero(is_switch)
        topic_uniform = ((bits[switches] >> np.uint64(16)) & np.uint64(0xFFFF)).astype(np.float64) / 65_536
        topic_at = np.zeros(len(bits), np.uint8)
        topic_at[switches] = np.minimum(
            (mixture[row_index[switches]] < topic_uniform[:, None]).sum(axis=1), N_TOPICS - 1
        )
        topic = topic_at[since_switch]
        repeats = ((bits >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.float32) / 65_536 < _REPEAT_PROB
        drawn_at = np.maximum.accumulate(np.where(is_switch | ~repeats, event_index, 0))
        token_slot = (bits[drawn_at] >> np.uint64(48)) & np.uint64(_LUT_SIZE - 1)
        token = self._token_table[topic, token_slot]
        is_lone = (lengths == 1) & (self._draws.uniform("lone", key) < columns.SINGLE_EVENT_TOKEN_SHARE)
        token[offsets[:-1][is_lone]] = columns.SINGLE_EVENT_TOKEN
        topic[offsets[:-1][is_lone]] = self._lone_topic
        return Events(topic, token, offsets)

    def topic_shares(self, events: Events) -> np.ndarray:
        """[n, 12] shares of the topics in the last MATCH_LENGTH events of each row."""
        length = np.diff(events.offsets)
        n_matched = np.minimum(length, MATCH_LENGTH)
        row_index, position = row_and_position(n_matched)
        topic = events.topic[events.offsets[:-1][row_index] + position]
        counts = np.bincount(row_index * N_TOPICS + topic, minlength=len(length) * N_TOPICS).reshape(-1, N_TOPICS)
        return counts / n_matched[:, None]

    def topic_affinities(self, ad_vector: np.ndarray) -> np.ndarray:
        """[n, 12] exp(1.3 m_t . v / sqrt(8)): affinity of [n, 8] ad vectors v to each topic t.

        The log of its mean over a row's last events is the match of the ad with the row.
        """
        return np.exp(_MATCH_SHARPNESS * self._affinity(ad_vector) / np.sqrt(D_INTEREST))

    def _mixture(self, interest: np.ndarray) -> np.ndarray:
        """[n, 12] topic probabilities of [n, 8] user interests."""
        score = np.exp(_TOPIC_SHARPNESS * self._affinity(interest) / np.sqrt(D_INTEREST))
        return score / score.sum(axis=1, keepdims=True)

    def _affinity(self, vector: np.ndarray) -> np.ndarray:
        """[n, 12] inner products of [n, 8] vectors with the topic vectors.

        Not `@`: BLAS sums a single row in another order than many rows, so that the block size would change the bits.
        """
        return sum(vector[:, d, None] * self.topic_vector[:, d] for d in range(D_INTEREST))

    def _key(self, users: Users, row: np.ndarray) -> np.ndarray:
        """[n] random key of a row's sequence: the user (rows of a user then share a sequence) or the row itself."""
        is_base = self._draws.uniform("version", row) < _BASE_VERSION_PROB
        return np.where(is_base, 2 * users.number, 2 * row + 1)


def _token_table(shuffled_tokens: np.ndarray) -> np.ndarray:
    """[12, 4096] uint16: a uniform slot of row t gives a Zipf-distributed token of topic t, rarely of any topic.

    Args:
        shuffled_tokens: [561] all tokens; every twelfth token, starting at t, belongs to topic t.
    """
    table = np.empty((N_TOPICS, _LUT_SIZE), np.uint16)
    for topic in range(N_TOPICS):
        topic_tokens = shuffled_tokens[topic::N_TOPICS]
        weight = np.full(N_TOKENS, _STRAY_PROB / N_TOKENS)
        zipf = np.arange(1, len(topic_tokens) + 1) ** -_ZIPF
        weight[topic_tokens] += (1 - _STRAY_PROB) * zipf / zipf.sum()
        edges = np.floor(np.cumsum(weight) / weight.sum() * _LUT_SIZE + 0.5).astype(np.int64)
        table[topic] = np.searchsorted(edges, np.arange(_LUT_SIZE), side="right").clip(max=N_TOKENS - 1)
    return table


def as_strings(events: Events) -> pa.Array:
    """Formats [n] comma-separated token numbers; the most recent event is LAST."""
    n, total = len(events.offsets) - 1, len(events.token)
    # Reversing the whole array reverses every row; reading the rows from the end restores their order.
    token = events.token[::-1].astype(np.int64)
    ends = total - events.offsets[::-1]  # row n - 1 comes first
    width = _WIDTH[token] + 1
    width[ends[1:] - 1] -= 1  # no comma after the last token of a row
    byte_offsets = np.concatenate([[0], np.cumsum(width)])
    text = np.full(int(byte_offsets[-1]), ord(","), np.uint8)
    for digit in range(_DIGITS.shape[1]):
        token_index = np.flatnonzero(_WIDTH[token] > digit)
        text[byte_offsets[token_index] + digit] = _DIGITS[token[token_index], digit]
    row_offsets = byte_offsets[ends]
    reversed_rows = pa.Array.from_buffers(
        pa.string(), n, [None, pa.py_buffer(row_offsets.astype(np.int32)), pa.py_buffer(text)]
    )
    return reversed_rows.take(pa.array(np.arange(n)[::-1]))


_WIDTH = np.array([len(str(number)) for number in range(N_TOKENS)])
_DIGITS = np.array([[ord(c) for c in str(number).ljust(3)] for number in range(N_TOKENS)], np.uint8)
