"""Reference statistics of a token list: length, distinct tokens, their ratio, entropy in nats."""

import math
from collections import Counter


def plain(tokens: list) -> list[float]:
    counts, n = Counter(tokens), len(tokens)
    entropy = -sum(c / n * math.log(c / n) for c in counts.values())
    return [n, len(counts), len(counts) / n if n else 0.0, entropy]
