"""The temporal encoder: attention along time at each position, and merging of neighbouring positions."""

from collections.abc import Iterator
from typing import cast

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def visibility(times: Tensor, valid: Tensor, target_time: Tensor, *, bidirectional: bool) -> Tensor:
    """Return which slots each slot may attend to (B, L + 1, L + 1), bool, query before key.

    The last slot is the target's. It is empty, so no other slot may attend to it. A visit is visible to later slots,
    or with `bidirectional` to all slots; a visit at the target's time is visible to none. Every slot may attend to
    itself, so no row is empty.
    """
    slots = torch.cat([times, target_time[:, None]], dim=1)
    usable = nn.functional.pad(valid & (times != target_time[:, None]), (0, 1), value=False)
    visible = usable[:, None, :].expand(-1, slots.shape[1], -1)
    if not bidirectional:
        visible = visible & (slots[:, None, :] < slots[:, :, None])
    return visible | torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)


class TemporalAttention(nn.Module):
    """A transformer block over the slots of each position; positions do not mix.

    - `tokens` (B, w, h, d, S, E) and `visible` (B, S, S), bool, query before key; the result has the shape of `tokens`.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.block = Block(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=True, proj_drop=dropout)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        batch, *grid, slots, _ = tokens.shape
        # The mask is expanded per position and shared by the heads, since fused kernels accept no mask of rank 5.
        mask = visible[:, None, None, None].expand(batch, *grid, slots, slots).flatten(0, 3)[:, None]
        return self.block(tokens.flatten(0, 3), attn_mask=mask).view_as(tokens)

    def weights(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the attention, averaged over the heads (B, w, h, d, S, S), query before key, float32."""
        return self._weights(tokens, visible, slice(None)).mean(dim=4)

    def target_weights(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the attention of the target's slot to each visit by head (B, heads, L, w, h, d), float32."""
        return self._weights(tokens, visible, slice(-1, None))[..., 0, :-1].permute(0, 4, 5, 1, 2, 3)

    def _weights(self, tokens: Tensor, visible: Tensor, queries: slice) -> Tensor:
        """Return softmax(q kᵀ / √d) (B, w, h, d, heads, queries, S), float32.

        The fused kernels of `forward` do not return the weights, so they are computed again from the block's layers.
        """
        attention = cast("Attention", self.block.attn)
        qkv = attention.qkv(self.block.norm1(tokens))
        q, k, _ = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim)).movedim(-2, -4).unbind(-2)
        scores = attention.q_norm(q[..., queries, :]).float() @ attention.k_norm(k).float().mT * attention.scale
        visible = visible[:, None, None, None, None, queries]
        return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)


class TemporalEncoder(nn.ModuleList):
    """The `TemporalAttention` blocks of all levels, finest first."""

    def __iter__(self) -> Iterator[TemporalAttention]:
        return cast("Iterator[TemporalAttention]", super().__iter__())


class Merge(nn.Module):
    """Merging of 2×2×2 neighbouring tokens into one: their mean plus an MLP of all eight.

    An odd axis, also one with a single token, is first padded by repeating its last token, so images need padding only
    to a multiple of the patch.

    - `tokens` (B, w, h, d, S, E) -> (B, ⌈w/2⌉, ⌈h/2⌉, ⌈d/2⌉, S, E).
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8 * dim)
        self.mlp = Mlp(8 * dim, hidden_features=2 * dim, out_features=dim, drop=dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        for axis in (1, 2, 3):
            if tokens.shape[axis] % 2:
                tokens = torch.cat([tokens, tokens.narrow(axis, tokens.shape[axis] - 1, 1)], dim=axis)
        for axis in (1, 3, 5):
            tokens = tokens.unflatten(axis, (-1, 2))
        eight = tokens.permute(0, 1, 3, 5, 7, 2, 4, 6, 8).flatten(5, 7)
        return eight.mean(dim=5) + self.mlp(self.norm(eight.flatten(5)))
