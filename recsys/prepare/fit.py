"""The reduce step of preparation: statistics of the training rows, computed from digests and merged."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys import defaults
from recsys.data.config import PrepareConfig
from recsys.data.groups import Group
from recsys.data.layout import SequenceStats
from recsys.data.vocabulary import Codes, Vocabulary
from recsys.defaults import filled
from recsys.errors import InputError
from recsys.patterns import by_column
from recsys.prepare.digest import categorical_codes, content_hashes, measured, sequence_lengths, token_codes
from recsys.prepare.numeric import NumericCounter, NumericSample
from recsys.prepare.scan import sample_hashes
from recsys.prepare.vocabulary import VocabularyCounter
from recsys.schema.resolved import Schema
from recsys.system.hashing import mix

_INDICATOR_SEED = 2


@dataclass(frozen=True)
class Fitted:
    """Vocabularies and statistics of all training rows."""

    vocabularies: dict[str, Vocabulary]
    sample: NumericSample
    lengths: dict[str, SequenceStats]
    """By sequence."""
    content: np.ndarray
    """[n] uint64 hashes of the features of all rows, equal for rows that are equal in all of them."""


class Counts:
    """Counts and statistics of some training rows; those of other rows can be merged into them.

    Args:
        schema: the roles of the columns.
        groups: all groups of the data set.
        config: how statistics are computed.
    """

    def __init__(self, schema: Schema, groups: list[Group], config: PrepareConfig) -> None:
        self._schema, self._config = schema, config
        self._train = np.array([index for index, group in enumerate(groups) if group.partition == "train"], np.uint8)
        self._n_train = sum(group.n_rows for group in groups if group.partition == "train")
        self._values = {name: VocabularyCounter(len(groups)) for name in schema.vocabularies}
        self._numbers = NumericCounter(schema.measured, len(groups))
        self._content: list[tuple[int, np.ndarray]] = []
        n = len(schema.token_sequences)
        self._total, self._longest, self._n_empty = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)

    def add(self, digest: pa.RecordBatch, group: np.ndarray, hashes: np.ndarray, first_row: int) -> None:
        """Counts the training rows among [n] rows; vocabularies and statistics must not depend on other rows.

        Args:
            digest: the digest of the rows.
            group: [n] uint8.
            hashes: [n] uint64 hashes of the row ids.
            first_row: number of the first row among all rows.
        """
        schema = self._schema
        self._content.append((first_row, content_hashes(digest)))
        is_train = np.isin(group, self._train)
        train_rows = slice(None) if is_train.all() else is_train
        for name in schema.categorical:
            codes = categorical_codes(digest, name)
            self._values[name].add(Codes(codes.codes[train_rows], codes.values), group[train_rows])
        for sequence in schema.token_sequences:
            offsets, codes = token_codes(digest, sequence.name)
            sizes = np.diff(offsets)
            train_tokens = slice(None) if is_train.all() else np.repeat(is_train, sizes)
            train_codes = Codes(codes.codes[train_tokens], codes.values)
            self._values[sequence.vocabulary].add(train_codes, np.repeat(group, sizes)[train_tokens])
        lengths = sequence_lengths(digest, schema)[train_rows].astype(np.int64)
        self._total += lengths.sum(axis=0)
        self._longest = np.maximum(self._longest, lengths.max(axis=0, initial=0))
        self._n_empty += (lengths == 0).sum(axis=0)
        if schema.measured:
            hashes, group = hashes[train_rows], group[train_rows]
            is_sampled = sample_hashes(hashes, self._config.seed) < self._config.n_sampled_rows / self._n_train
            values = measured(digest, schema)[train_rows]
            self._numbers.add(values, group, mix(hashes, _INDICATOR_SEED), is_sampled)

    def merge(self, other: "Counts") -> None:
        """Adds the counts of other rows."""
        for name, counter in self._values.items():
            counter.merge(other._values[name])
        self._numbers.merge(other._numbers)
        self._total += other._total
        self._longest = np.maximum(self._longest, other._longest)
        self._n_empty += other._n_empty
        self._content += other._content

    def finish(self) -> Fitted:
        """Returns the vocabularies and statistics, which do not depend on the order of batches.

        Raises:
            InputError: for a column without any value.
        """
        config, vocabularies = filled(self._config, {"min_count": defaults.min_count(self._n_train)}), {}
        for name, counter in self._values.items():
            min_count = by_column(config.min_count, config.min_count_by_column, name, self._values)
            is_encoded = any(feature in self._schema.encodings for feature in self._schema.vocabularies[name])
            vocabulary = counter.finish(min_count, is_encoded)
            if vocabulary.counts.sum() + vocabulary.n_rare == 0 and name in self._schema.categorical:
                raise InputError(
                    f"column {name!r} has no value in the training rows: remove it from the schema (where a pattern "
                    "matches it: add it to schema.ignore), or fill it"
                )
            vocabularies[name] = vocabulary
        names = [sequence.name for sequence in self._schema.token_sequences]
        lengths = {
            name: SequenceStats(mean_length=total / self._n_train, max_length=longest, n_empty=n_empty)
            for name, total, longest, n_empty in zip(
                names, self._total.tolist(), self._longest.tolist(), self._n_empty.tolist(), strict=True
            )
        }
        sample = self._numbers.finish()
        for vector in self._schema.vectors:
            if np.isnan(sample.values[:, sample.columns.index(vector.columns[0])]).all():
                raise InputError(
                    f"column {vector.name!r} has no vector in the training rows: remove it from the schema, or fill it"
                )
        self._content.sort(key=lambda part: part[0])
        content = np.concatenate([hashes for _, hashes in self._content])
        return Fitted(vocabularies, sample, lengths, content)
