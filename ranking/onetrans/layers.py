"""Transformer layers over feature tokens, which have weights of their own, and event tokens, which share theirs.

Source: Zhang et al., "OneTrans: unified feature interaction and sequence modeling with one Transformer in industrial
recommender", WWW 2026 (arXiv 2510.26104).

Shapes: B rows of a batch, F feature tokens, L event tokens, P = F + L tokens, Q tokens that are queries, D width of a
token, H width of a feed-forward layer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.nn.layers import Dropout


class OwnLinear(nn.Module):
    """A linear map of its own for each feature token: y_f = W_f x_f + b_f.

    Args:
        n_tokens: F.
        d_in, d_out: widths of a token before and after it.
    """

    def __init__(self, n_tokens: int, d_in: int, d_out: int) -> None:
        super().__init__()
        bound = d_in**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(n_tokens, d_in, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_tokens, 1, d_out).uniform_(-bound, bound))

    def forward(self, x_BFD: Tensor) -> Tensor:
        """[B, F, d_in] to [B, F, d_out]."""
        return torch.baddbmm(self.bias, x_BFD.transpose(0, 1), self.weight).transpose(0, 1)


class MixedLinear(nn.Module):
    """Maps feature tokens each by weights of its own, and event tokens all by the same.

    Args:
        n_features: F.
        d_in, d_out: widths of a token before and after it.
        has_events: whether it maps event tokens.
    """

    def __init__(self, n_features: int, d_in: int, d_out: int, has_events: bool) -> None:
        super().__init__()
        self.own = OwnLinear(n_features, d_in, d_out)
        self.shared = nn.Linear(d_in, d_out) if has_events else None

    def forward(self, x_BFD: Tensor, event_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F, d_in] and [B, L, d_in] to [B, F, d_out] and [B, L, d_out]; L = 0 without events."""
        features = self.own(x_BFD)
        return features, features[:, :0] if self.shared is None else self.shared(event_BLD)


class Block(nn.Module):
    """A pre-norm layer: x + attention(norm(x)), then x + feed_forward(norm(x)), for features and the first events.

    Events come in the order of their slots, the most recent first: a layer may return fewer of them than it reads (the
    pyramid of OneTrans).

    NOTE[DIFF]: all tokens attend to all tokens that are present; the paper's attention is causal, events before
    features, so that events do not learn of features. InterFormer (Zeng et al., "InterFormer: effective heterogeneous
    interaction learning for click-through rate prediction", arXiv 2411.09852) lets information flow both ways too.
    NOTE[DIFF]: layer normalization instead of the paper's RMSNorm, for which a CPU has no kernel.

    Args:
        n_features: F.
        width: D.
        n_heads: heads of the attention; they divide D.
        d_ffn: H.
        dropout: dropout probability of the outputs of both branches.
        has_events: whether it returns events.
    """

    def __init__(self, n_features: int, width: int, n_heads: int, d_ffn: int, dropout: float, has_events: bool) -> None:
        super().__init__()
        self.n_features, self.n_heads = n_features, n_heads
        self.attention_norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = MixedLinear(n_features, width, width, has_events)
        self.key_value = MixedLinear(n_features, width, 2 * width, has_events=True)
        self.out = MixedLinear(n_features, width, width, has_events)
        self.ffn_in = MixedLinear(n_features, width, d_ffn, has_events)
        self.ffn_out = MixedLinear(n_features, d_ffn, width, has_events)
        self.dropout = Dropout(dropout)

    def forward(self, x_BFD: Tensor, event_BLD: Tensor, is_event_BL: Tensor, n_events: int) -> tuple[Tensor, Tensor]:
        """Returns the [B, F, D] features and the [B, n_events, D] first events.

        Args:
            x_BFD: features.
            event_BLD: events.
            is_event_BL: whether a slot has an event; nothing attends to the others.
            n_events: events to return; 0 without `has_events`.
        """
        kept = event_BLD[:, :n_events]
        features, events = self.attention(
            self.attention_norm(x_BFD), self.attention_norm(event_BLD), is_event_BL, n_events
        )
        x_BFD, kept = x_BFD + self.dropout(features), kept + self.dropout(events)
        features, events = self.feed_forward(self.ffn_norm(x_BFD), self.ffn_norm(kept))
        return x_BFD + self.dropout(features), kept + self.dropout(events)

    def attention(self, x_BFD: Tensor, event_BLD: Tensor, is_event_BL: Tensor, n_events: int) -> tuple[Tensor, Tensor]:
        """Multi-head attention with the features and the first events as queries, and all tokens as keys."""
        queries = self.query(x_BFD, event_BLD[:, :n_events])
        q, packed = torch.cat(queries, dim=1), torch.cat(self.key_value(x_BFD, event_BLD), dim=1)
        q, k, v = (x.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for x in (q, *packed.chunk(2, dim=2)))
        mask = functional.pad(is_event_BL, (self.n_features, 0), value=True)[:, None, None, :]
        attended = _attend(q, k, v, mask).transpose(1, 2).flatten(2)
        return self.out(attended[:, : self.n_features], attended[:, self.n_features :])

    def feed_forward(self, x_BFD: Tensor, event_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """W_2 GELU(W_1 x) for each token."""
        hidden_BFH, event_BLH = self.ffn_in(x_BFD, event_BLD)
        return self.ffn_out(functional.gelu(hidden_BFH), functional.gelu(event_BLH))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of heads; on a CPU in float32, whose backward pass is five times as fast as that of bfloat16."""
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        return functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
