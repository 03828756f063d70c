"""The checks of codecs."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from longigen.components.codec import Codec
from longigen.models.network_codec import NetworkCodec, load_codec
from longigen.testing.assertions import assert_outlined, assert_reached, close, keeps_its_configuration, restored
from longigen.testing.case import SIZES, Case, randomised
from longigen.testing.composition import works_with_every_part
from longigen.testing.randomness import assert_draws_nothing_global, seeded

Size = tuple[int, int, int]

ROUNDING = 1e-4
"""A stated error below this is of rounding: such a codec is exact for any image."""


def _made(case: Case, channels: int = 1) -> Codec:
    """Make a codec for images of some channels, with random weights; what depends on data is measured on `_images`."""
    with seeded(0):
        codec = case.make(None).compose(channels)
        randomised(codec)
    if codec.error is None:
        codec.measure([_images(size, channels) for size in SIZES])
    return codec


def _images(size: Size, channels: int = 1) -> Tensor:
    """Return two random images (2, C, W, H, D) in [-1, 1]."""
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _flows(output: Tensor, given: Tensor) -> bool:
    """Say whether a gradient passes from an output to what it was made of, finite and not zero."""
    if not output.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(output.square().sum(), given, allow_unused=True)
    return gradient is not None and bool(torch.isfinite(gradient).all()) and bool(gradient.any())


def encodes_any_size(case: Case) -> None:
    """Check the shape, type and range of codes and of decoded images, of one channel and of two."""
    for channels in (1, 2):
        codec = _made(case, channels)
        for size in SIZES:
            for dtype in (torch.float32, torch.float64):
                image = _images(size, channels).to(dtype)
                before = image.clone()
                code = codec.encode(image)
                coarse = tuple(-(-length // codec.factor) for length in size)
                assert code.shape == (2, codec.channels, *coarse), f"the code of {size} is {tuple(code.shape)}"
                assert code.dtype == dtype, f"the code of {dtype} is {code.dtype}"
                limit = float(codec.limit)
                assert float(code.abs().max()) <= limit * (1 + 1e-4), f"a code is larger than the limit, {limit:g}"
                again = codec.decode(code, size)
                assert again.shape == image.shape, f"the image of {size} is decoded as {tuple(again.shape)}"
                assert again.dtype == dtype, f"an image of {dtype} is decoded as {again.dtype}"
                assert torch.equal(image, before), "the image was changed"


def states_its_error(case: Case) -> None:
    """Check the error that a codec states: of an exact one for any image, of another for what it was measured on."""
    codec = _made(case)
    error = codec.error
    assert error is not None, "the error of the round trip is not known after it was measured"
    assert error >= 0, f"the error of the round trip is {error}"
    images = [_images(size) for size in SIZES]
    squares = [(codec.round_trip(image) - image).double().square().mean() for image in images]
    found = float(torch.stack(squares).mean().sqrt())
    assert found <= error * (1 + 1e-3) + 1e-7, f"a round trip changes images by {found:.3g}, and {error:.3g} is stated"
    if codec.trivial:
        assert (codec.channels, codec.factor) == (1, 1), "a trivial codec changes the shape"
        assert torch.equal(codec.encode(images[0]), images[0]), "a trivial codec changes the image"
    if error < ROUNDING:
        flat = torch.full((1, 1, *SIZES[0]), -1.0)
        assert float((codec.round_trip(flat) - flat).abs().max()) < ROUNDING, "an exact codec changes the background"


def is_one_function(case: Case) -> None:
    """Check that images of a batch do not affect each other, and that the result is the same again."""
    codec, images = _made(case), _images(SIZES[0])
    together = codec.encode(images)
    alone = torch.cat([codec.encode(image[None]) for image in images])
    assert close(together, alone), "the code of an image depends on the others of its batch"
    assert torch.equal(codec.encode(images), together), "two codes of one image differ"
    code = together[:1]
    assert torch.equal(codec.decode(code, SIZES[0]), codec.decode(code, SIZES[0])), "two images of one code differ"
    half = codec.encode(images[:1].bfloat16())
    assert bool(torch.isfinite(half).all()), "the code of an image of 16 bits is not finite"


def passes_gradients(case: Case) -> None:
    """Check that gradients pass from a decoded image to its code, and from a code to its image."""
    codec, size = _made(case), SIZES[0]
    image = _images(size).requires_grad_()
    code = codec.encode(image)
    assert _flows(code, image), "no finite gradient passes from a code to its image"
    code = code.detach().requires_grad_()
    assert _flows(codec.decode(code, size), code), "no finite gradient passes from an image to its code"


def draws_nothing_global(case: Case) -> None:
    """Check that it leaves the global random generators alone."""
    codec, image = _made(case), _images(SIZES[0])
    assert_draws_nothing_global(lambda: [codec.encode(image), codec.round_trip(image)])


def keeps_its_weights(case: Case) -> None:
    """Check that it is the same once it was saved and loaded, and that its identity changes with its weights."""
    codec, image = _made(case), _images(SIZES[0])
    assert_outlined(codec, lambda: case.make(None).compose(1))
    again = restored(codec, case.make(1).compose(1))
    assert again.identity == codec.identity, "the identity differs once the weights were saved and loaded"
    assert torch.equal(again.encode(image), codec.encode(image)), "codes differ once the weights were saved and loaded"
    other = case.make(2).compose(1)
    if list(other.parameters()):
        assert other.identity != codec.identity, "two codecs of other weights have one identity"
    if isinstance(codec, NetworkCodec):
        with TemporaryDirectory() as folder:
            codec.save(Path(folder))
            loaded = load_codec(Path(folder))
        assert loaded.identity == codec.identity, "the identity differs once the codec was saved in a folder"
        assert loaded.error == codec.error, "the error differs once the codec was saved in a folder"


def learns(case: Case) -> None:
    """Check of a network: losses of one value per image, gradients everywhere, and losses that fall."""
    codec = _made(case)
    if not isinstance(codec, NetworkCodec):
        return
    codec.train().requires_grad_(True)
    multiple = 2 * codec.factor
    images = torch.tanh(_images((multiple, multiple, multiple)) * 2)
    with seeded(0):
        adversary = codec.make_adversary()

    def losses() -> Tensor:
        found = codec.losses(images, torch.Generator().manual_seed(0), adversary)
        for name, value in found.items():
            assert value.shape == (2,), f"the loss '{name}' is {tuple(value.shape)}, and not one value per image"
        return torch.stack([*found.values()]).sum(dim=0).mean()

    first = losses()
    first.backward()
    assert_reached(dict(codec.named_parameters()))
    if adversary is not None:
        adversary.requires_grad_(True).zero_grad()
        codec.zero_grad()
        found = codec.adversary_losses(images, torch.Generator().manual_seed(0), adversary)
        torch.stack([*found.values()]).sum(dim=0).mean().backward()
        assert_reached(dict(adversary.named_parameters()))
        assert all(parameter.grad is None for parameter in codec.parameters()), "the discriminator trains the codec"
        adversary.requires_grad_(False)
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        losses().backward()
        optimizer.step()
    assert float(losses().detach()) < float(first.detach()), "the losses do not fall in five steps"


def depends_on_surroundings_alone(case: Case) -> None:
    """Check of a network that says it is `local`: a voxel's value does not depend on what is far from it."""
    codec = _made(case)
    if not isinstance(codec, NetworkCodec) or not codec.local:
        return
    far = 24 * codec.factor
    near = _images((2 * codec.factor, 2 * codec.factor, 2 * far))
    changed = near.clone()
    changed[..., far:] = -changed[..., far:].abs()
    one, two = (codec.encode(image)[..., 0] for image in (near, changed))
    assert close(one, two), "a code depends on voxels that are far away, as where layers normalise over the image"
    code = codec.encode(near)
    other = torch.cat([code[..., : code.shape[-1] // 2], 0 * code[..., code.shape[-1] // 2 :]], dim=-1)
    one, two = (codec.to_image(each)[..., 0] for each in (code, other))
    assert close(one, two), "an image depends on codes that are far away, as where layers normalise over the image"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "encodes images of any size": encodes_any_size,
    "states the error of its round trip": states_its_error,
    "is one function of the image": is_one_function,
    "passes gradients": passes_gradients,
    "leaves global random generators alone": draws_nothing_global,
    "keeps its weights": keeps_its_weights,
    "learns, where it is a network": learns,
    "sees surroundings alone, where it is a network": depends_on_surroundings_alone,
    "composes with every installed part": works_with_every_part,
}
"""By what a codec is to do; see `Codec` and `NetworkCodec`."""
