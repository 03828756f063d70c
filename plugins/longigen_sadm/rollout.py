"""Attention rollout: which visits the target's slot looked at, through all levels of the temporal encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rollout(levels: Sequence[Tensor]) -> Tensor:
    """Return how much of each visit flows into the target's slot, at each place of the finest grid, (B, w, h, d, L).

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv 2005.00928, Section 3: a block
    passes on Ã = ½ (A + I), half by attention and half by its residual connection, and blocks multiply:

        R(p) = Ã_ℓ(p_ℓ) ⋯ Ã_2(p_2) Ã_1(p_1)

    Here attention runs along time at one place, and between two blocks 2×2×2 places are merged. A merge is taken for
    the mean that its MLP is added to: it mixes no slots and weighs its places equally, so what reaches a coarse place
    by way of a fine one `p` is the product of the matrices of the places that hold it, p = p_1 ⊂ p_2 ⊂ … ⊂ p_ℓ, up to
    a factor that is the same for all visits. The flow is the target's row of R(p), without the target itself, whose
    slot holds nothing. (With skips the slot leaves the encoder at each level; how those are weighed is the decoder's
    doing, and not counted.)

    Args:
        levels: A, finest grid first, (B, w, h, d, S, S), query before key, each row a distribution, the target's slot
            the last of S = L + 1; each grid half of the one before, rounded up.
    """
    flow = _passed(levels[-1])[..., -1, :]
    for attention in reversed(levels[:-1]):
        for axis, size in enumerate(attention.shape[1:4], start=1):
            flow = flow.repeat_interleave(2, dim=axis).narrow(axis, 0, size)
        flow = (flow[..., None, :] @ _passed(attention))[..., 0, :]
    return flow[..., :-1]


def shares(levels: Sequence[Tensor], visible: Tensor) -> Tensor:
    """Return the share of each visit in the target's slot, at each place of the finest grid, (B, w, h, d, L).

    A visit's flow is taken relative to R°, the rollout of attention that is indifferent among the slots that it may
    see, and the ratios are scaled to sum to 1 over visits s:

        share(p, s) = (R(p)[target, s] / R°[target, s]) / Σ_s' (R(p)[target, s'] / R°[target, s'])

    The division is ours. Where slots see only what is before them, a first visit also flows by way of all the later
    ones and a last visit by none, so that indifferent attention would seem to prefer the first. Now equal shares mean
    indifference, and with one level the shares are the attention itself, without the target's to itself.

    Args:
        levels: as in `rollout`.
        visible: which slot each slot may attend to, (B, S, S), bool.
    """
    indifferent = (visible / visible.sum(dim=-1, keepdim=True))[:, None, None, None]
    expected = rollout([indifferent] * len(levels))
    ratio = torch.where(expected > 0, rollout(levels) / expected, 0.0)
    total = ratio.sum(dim=-1, keepdim=True)
    # A target before every visit looks at none.
    return torch.where(total > 0, ratio / total, 0.0)


def _passed(attention: Tensor) -> Tensor:
    return 0.5 * (attention + torch.eye(attention.shape[-1], device=attention.device))
