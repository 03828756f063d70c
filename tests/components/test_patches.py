"""Space to depth and back."""

import pytest
import torch

from longigen import patchify, unpatchify


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches(patch: int) -> None:
    x = torch.arange(2 * 2 * 6 * 12 * 6.0).reshape(2, 2, 6, 12, 6)
    patches = patchify(x, patch)
    assert patches.shape == (2, 2 * patch**3, 6 // patch, 12 // patch, 6 // patch)
    first = x[1, 1, :patch, patch : 2 * patch, -patch:].flatten()
    if patch > 1:
        assert torch.equal(patches[1, patch**3 :, 0, 1, -1], first)  # the voxels of a patch become channels
    assert torch.equal(unpatchify(patches, patch), x)
