"""Backbones by timm's names."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import nn

from longigen import LongigenError

NEAR = 5
"""Spellings that are offered for an unknown name, of some thousand that there are."""


def require_known(name: str, *, pretrained: bool) -> None:
    """Refuse a name that timm does not have, or has no weights for where `pretrained` asks for them.

    Raises:
        LongigenError: with near spellings.
    """
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        near = get_close_matches(architecture, known, n=NEAR, cutoff=0.5)
        hint = f" Near spellings: {', '.join(near)}." if near else ""
        raise LongigenError(
            f"timm: there is no backbone '{name}' among timm's {len(known)}.{hint} All: python -c 'import timm; "
            "print(timm.list_models())'."
        )
    with_weights = timm.list_pretrained(f"{architecture}*")
    tags = [one.partition(".")[2] for one in with_weights if one.partition(".")[0] == architecture]
    if tag and tag not in tags:
        raise LongigenError(
            f"timm: the backbone '{architecture}' has no weights '{tag}'; it has: {', '.join(tags) or 'none'}."
        )
    if pretrained and not tags:
        raise LongigenError(
            f"timm: there are no pretrained weights of '{architecture}'; take a name from timm.list_pretrained(), or "
            "set pretrained=false."
        )


def normalisation(name: str) -> tuple[float, float]:
    """Return the mean and standard deviation that a backbone's images, in [0, 1], are standardised by, over colours."""
    source = timm.get_pretrained_cfg(name)
    if source is None:
        return 0.5, 0.5
    return sum(source.mean) / len(source.mean), sum(source.std) / len(source.std)


def make_backbone(name: str, *, channels: int, size: int) -> tuple[nn.Module, int]:
    """Return a backbone without a classifier, its weights drawn at random, and the width of its pooled features.

    Raises:
        LongigenError: if timm's backbone takes no images of that size.
    """
    try:
        backbone = _create(name, channels, size, pretrained=False)
        with torch.no_grad():
            pooled = backbone.eval()(torch.zeros(1, channels, size, size))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise LongigenError(
            f"timm: the backbone '{name}' cannot be used on slices of {size} × {size} ({_reason(error)}); change size, "
            "or take another."
        ) from error
    if pooled.ndim != 2:
        raise LongigenError(f"timm: the backbone '{name}' gives no pooled features; take another.")
    return backbone.train(), pooled.shape[1]


def load_weights(backbone: nn.Module, name: str, *, channels: int, size: int) -> None:
    """Put timm's pretrained weights into a backbone, the first layer's summed or repeated over `channels`.

    Raises:
        LongigenError: if they cannot be had.
    """
    try:
        given = _create(name, channels, size, pretrained=True)
    except Exception as error:  # of the network, the Hub, the cache or timm, each in its own way
        raise LongigenError(
            f"timm: the pretrained weights of '{name}' cannot be had ({_reason(error)}); go online once, so that they "
            "are kept, or set pretrained=false."
        ) from error
    backbone.load_state_dict(given.state_dict())


def _create(name: str, channels: int, size: int, *, pretrained: bool) -> nn.Module:
    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    sized: dict[str, Any] = {"img_size": size} if fixed else {}
    return timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=0, **sized)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
