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
        has_events: whether there are event tokens.
    """

    def __init__(self, n_features: int, d_in: int, d_out: int, has_events: bool) -> None:
        super().__init__()
        self.n_features = n_features
        self.own = OwnLinear(n_features, d_in, d_out)
        self.shared = nn.Linear(d_in, d_out) if has_events else None

    def forward(self, x_BPD: Tensor) -> Tensor:
        """[B, P, d_in] to [B, P, d_out]."""
        if self.shared is None:
            return self.own(x_BPD)
        features, events = x_BPD[:, : self.n_features], x_BPD[:, self.n_features :]
        return torch.cat([self.own(features), self.shared(events)], dim=1)


class Block(nn.Module):
    """A pre-norm layer: x + attention(norm(x)), then x + feed_forward(norm(x)), for the first Q of the tokens.

    Feature tokens come first, then event tokens, the most recent ones first: a layer with fewer queries than tokens
    returns the features and the most recent events (the pyramid of OneTrans).

    NOTE[DIFF]: all tokens attend to all tokens that are present; the paper's attention is causal, events before
    features, so that events do not learn of features. InterFormer (Zeng et al., "InterFormer: effective heterogeneous
    interaction learning for click-through rate prediction", arXiv 2411.09852) lets information flow both ways too.

    Args:
        n_features: F.
        n_events: Q - F, events of the output.
        width: D.
        n_heads: heads of the attention; they divide D.
        d_ffn: H.
        dropout: dropout probability of the outputs of both branches.
    """

    def __init__(self, n_features: int, n_events: int, width: int, n_heads: int, d_ffn: int, dropout: float) -> None:
        super().__init__()
        self.n_queries, self.n_heads = n_features + n_events, n_heads
        has_events = n_events > 0
        self.attention_norm, self.ffn_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query = MixedLinear(n_features, width, width, has_events)
        self.key_value = MixedLinear(n_features, width, 2 * width, has_events=True)
        self.out = MixedLinear(n_features, width, width, has_events)
        self.ffn_in = MixedLinear(n_features, width, d_ffn, has_events)
        self.ffn_out = MixedLinear(n_features, d_ffn, width, has_events)
        self.dropout = Dropout(dropout)

    def forward(self, x_BPD: Tensor, is_present_BP: Tensor) -> Tensor:
        """[B, P, D] tokens to the [B, Q, D] first of them; absent tokens are never attended to."""
        x_BQD = x_BPD[:, : self.n_queries]
        x_BQD = x_BQD + self.dropout(self.attention(self.attention_norm(x_BPD), is_present_BP))
        return x_BQD + self.dropout(self.ffn_out(functional.gelu(self.ffn_in(self.ffn_norm(x_BQD)))))

    def attention(self, x_BPD: Tensor, is_present_BP: Tensor) -> Tensor:
        """Multi-head attention with the first Q tokens as queries: [B, P, D] to [B, Q, D]."""
        parts = (self.query(x_BPD[:, : self.n_queries]), *self.key_value(x_BPD).chunk(2, dim=2))
        q, k, v = (x.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for x in parts)
        mask = is_present_BP[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))
