"""Encodings from counts of resident rows: the same as those of `recsys.data.encodings` on the host.

Shapes: R rows, E encodings.
"""

import numpy as np
import torch
from torch import Tensor

from recsys.data.encoder import FeatureEncoder
from recsys.data.encodings.past import PastEncoding
from recsys.data.encodings.table import EncodingTable
from recsys.data.encodings.tokens import TokenEncoding
from recsys.data.layout import BLOCK_ROWS
from recsys.data.resident.rows import ResidentRows
from recsys.data.store import RowStore
from recsys.system.threads import in_threads


class ResidentEncodings:
    """All encodings of a split.

    Args:
        encoder: the encoder of the split.
        store: all rows.
        rows: the same rows on the device.
    """

    def __init__(self, encoder: FeatureEncoder, store: RowStore, rows: ResidentRows) -> None:
        self._rows, columns = rows, encoder.encoded_columns
        self._by_fold = [_ByFold(columns[name], of, rows.device) for name, of in encoder.encodings.by_fold.items()]
        self._by_past = [_ByPast(columns[name], of, rows.device) for name, of in encoder.encodings.by_past.items()]
        of_tokens = encoder.encodings.by_token.items()
        self._of_tokens = [_of_all_rows(of, store, name, rows.device) for name, of in of_tokens]

    def __call__(self, row: Tensor) -> list[Tensor]:
        """Encodes [R] row numbers as [R, E] of each feature."""
        of_tokens = [values.index_select(0, row) for values in self._of_tokens]
        if not self._by_fold and not self._by_past:
            return of_tokens
        codes = self._rows.sparse.index_select(0, row)
        group = None if self._rows.group is None else self._rows.group.index_select(0, row).int()
        values = [encoding(codes, group) for encoding in self._by_fold]
        if not self._by_past:
            return values + of_tokens
        counts = self._rows.past_counts
        past = None if counts is None else counts.index_select(0, row)
        return values + [encoding(codes, group, past) for encoding in self._by_past] + of_tokens


def _of_all_rows(encoding: TokenEncoding, store: RowStore, sequence: str, device: torch.device) -> Tensor:
    """The [n, D] encodings of tokens of all rows: pooled on the host once, so that no batch reads tokens for them."""
    values = torch.empty(store.n_rows, len(encoding.mean), device=device)
    blocks = [np.arange(start, min(start + BLOCK_ROWS, store.n_rows)) for start in range(0, store.n_rows, BLOCK_ROWS)]
    for rows, of_rows in in_threads(lambda rows: encoding.of_rows(store, sequence, rows), blocks):
        values[int(rows[0]) : int(rows[-1]) + 1] = torch.from_numpy(of_rows).to(device)
    return values


class _ByFold:
    """`EncodingTable` on a device, for one column of the store."""

    def __init__(self, column: int, host: EncodingTable, device: torch.device) -> None:
        self._column, self._n_codes = column, host.values.shape[2]
        self._values = torch.from_numpy(host.values.reshape(len(host.kinds), -1)).to(device)
        self._part_of_group = torch.from_numpy(host.part_of_group).to(device)
        self._last_part = host.values.shape[1] - 1

    def __call__(self, codes: Tensor, group: Tensor | None) -> Tensor:
        """Encodes [R, n_categorical] codes of rows of [R] groups as [R, E]."""
        part = self._last_part if group is None else self._part_of_group.index_select(0, group)
        entry = part * self._n_codes + codes[:, self._column]
        return self._values.index_select(1, entry).T


class _ByPast:
    """`PastEncoding` on a device, for one column of the store; float64 as there."""

    def __init__(self, column: int, host: PastEncoding, device: torch.device) -> None:
        self._column, self._past, self._kinds, self._prior = column, host.column, host.kinds, host.prior
        self._of_code = torch.from_numpy(host.of_code).to(device)
        self._has_past = torch.from_numpy(host.has_past).to(device)
        self._mean, self._deviation = (torch.from_numpy(of).to(device) for of in (host.mean, host.deviation))
        self._base = float(np.log(host.prior.mean) - np.log1p(-host.prior.mean))

    def __call__(self, codes: Tensor, group: Tensor | None, past: Tensor | None) -> Tensor:
        """Encodes [R, n_categorical] codes of rows of [R] groups with their counts of earlier rows as [R, E]."""
        of_code = self._of_code.index_select(1, codes[:, self._column]).T
        if group is None or past is None:
            return of_code
        n_rows, n_clicks = past[:, self._past], past[:, self._past + 1]
        is_counted = (n_rows >= 0) & self._has_past.index_select(0, group)
        rows, clicks = n_rows.clamp(min=0).double(), n_clicks.clamp(min=0).double()
        values = torch.stack([self._encode(kind, rows, clicks) for kind in self._kinds], dim=1)
        return torch.where(is_counted.unsqueeze(1), ((values - self._mean) / self._deviation).float(), of_code)

    def _encode(self, kind: str, rows: Tensor, clicks: Tensor) -> Tensor:
        if kind == "past_count":
            return rows.log1p()
        prior = self._prior
        others = rows - clicks + prior.strength * (1 - prior.mean)
        return (clicks + prior.strength * prior.mean).log() - others.log() - self._base
