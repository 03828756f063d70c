"""2D backbones of timm: create them by name, and cut volumes into the slices that they encode."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import LongigenError

MAX_SUGGESTIONS = 5
"""The largest number of similar names that are suggested for an unknown name."""
PLANES = 3
"""Sagittal, coronal and axial: perpendicular to W, H and D of a volume with axes R, A, S."""


def require_known(name: str, *, pretrained: bool) -> None:
    """Check that timm has a backbone with this name, and for `pretrained`, weights for it.

    Raises:
        LongigenError: if it has not; the message suggests similar names.
    """
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        similar = get_close_matches(architecture, known, n=MAX_SUGGESTIONS, cutoff=0.5)
        hint = f" Similar names: {', '.join(similar)}." if similar else ""
        raise LongigenError(
            f"timm: there is no backbone '{name}' among timm's {len(known)}.{hint} To list all, run: python -c 'import "
            "timm; print(timm.list_models())'."
        )
    with_weights = timm.list_pretrained(f"{architecture}*")
    tags = [one.partition(".")[2] for one in with_weights if one.partition(".")[0] == architecture]
    if tag and tag not in tags:
        raise LongigenError(
            f"timm: the backbone '{architecture}' has no weights '{tag}'; choose one of: {', '.join(tags) or 'none'}."
        )
    if pretrained and not tags:
        raise LongigenError(
            f"timm: there are no pretrained weights of '{architecture}'; use a name of timm.list_pretrained(), or "
            "set pretrained=false."
        )


def normalisation(name: str) -> tuple[float, float]:
    """Return the mean and standard deviation of a backbone's input normalisation, averaged over colours.

    They are for images in [0, 1].
    """
    source = timm.get_pretrained_cfg(name)
    if source is None:
        return 0.5, 0.5
    return sum(source.mean) / len(source.mean), sum(source.std) / len(source.std)


def make_backbone(name: str, *, channels: int, size: int) -> tuple[nn.Module, int]:
    """Return a backbone without a classifier, with random weights, and the width of its pooled features.

    Raises:
        LongigenError: if the backbone does not accept images of that size.
    """
    try:
        backbone = _create(name, channels, size, pretrained=False)
        with torch.no_grad():
            pooled = backbone.eval()(torch.zeros(1, channels, size, size))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise LongigenError(
            f"timm: the backbone '{name}' cannot be used on slices of {size} × {size} ({_reason(error)}); change size, "
            "or use another backbone."
        ) from error
    if pooled.ndim != 2:
        raise LongigenError(f"timm: the backbone '{name}' has no pooled features; use another backbone.")
    return backbone.train(), pooled.shape[1]


def load_weights(backbone: nn.Module, name: str, *, channels: int, size: int) -> None:
    """Load timm's pretrained weights into a backbone; those of the first layer are adapted to `channels`.

    Raises:
        LongigenError: if the weights cannot be downloaded.
    """
    try:
        pretrained = _create(name, channels, size, pretrained=True)
    except Exception as error:  # the network, the Hub, the cache and timm raise different exceptions
        raise LongigenError(
            f"timm: the pretrained weights of '{name}' cannot be downloaded ({_reason(error)}); go online once, so "
            "that they are cached, or set pretrained=false."
        ) from error
    backbone.load_state_dict(pretrained.state_dict())


def _create(name: str, channels: int, size: int, *, pretrained: bool) -> nn.Module:
    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    sized: dict[str, Any] = {"img_size": size} if fixed else {}
    return timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=0, **sized)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def plane_slices(volumes: Tensor, count: int, size: int) -> Tensor:
    """Return `count` resized slices in each of three planes: (N, C, W, H, D) to (N, 3, count, C, size, size).

    They are in the middle of `count` equal parts of the axis. For a thin axis some slices are repeated.
    """
    planes = []
    for axis in (2, 3, 4):
        extent = volumes.shape[axis]
        index = ((torch.arange(count, device=volumes.device) + 0.5) * extent / count).long()
        plane = volumes.index_select(axis, index).movedim(axis, 1).flatten(0, 1)
        plane = functional.interpolate(plane, (size, size), mode="bilinear", align_corners=False)
        planes.append(plane.unflatten(0, (-1, count)))
    return torch.stack(planes, dim=1)
