"""MONAI's U-Net as a denoiser, skipped without the extra; the message about the missing extra is always tested."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longigen import Conditioning, LongigenError, Routes
from longigen.registry.registry import registry

SMALL = {"channels": (8, 16), "head_channels": 8, "groups": 4}
MISSING = registry.entry("denoiser", "monai").extra
needs_monai = pytest.mark.skipif(MISSING is not None, reason=f"needs the extra: pip install '{MISSING}'")


def built(routes: Routes, **config: Any) -> Any:
    torch.manual_seed(0)
    denoiser = registry.load("denoiser", "monai")(**(SMALL | config))
    denoiser.build(channels=1, routes=routes)
    with torch.no_grad():  # the last convolution is initially zero
        for parameter in denoiser.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return denoiser.eval()


def noisy() -> Tensor:
    return torch.randn(2, 1, 6, 7, 5, generator=torch.Generator().manual_seed(1))


@needs_monai
def test_the_stem_is_added_to_the_first_convolutions_features() -> None:
    denoiser = built(Routes(concat=2, stem=8))
    seen: list[Tensor] = []
    denoiser.network.down_blocks[0].register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    z_t, concat, stem = torch.randn(2, 1, 4, 6, 4), torch.randn(2, 2, 4, 6, 4), torch.randn(2, 8, 4, 6, 4)
    denoiser(z_t, torch.zeros(2), Conditioning(concat=concat, stem=stem))
    first = denoiser.network.conv_in.convolution(torch.cat([z_t, concat], dim=1))
    assert torch.allclose(seen[0], first + stem, atol=1e-5)


@needs_monai
def test_the_embedding_is_added_to_that_of_time() -> None:
    denoiser = built(Routes(embedding=5))
    seen: list[Tensor] = []
    denoiser.network.down_blocks[0].register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["temb"]), with_kwargs=True
    )
    embedding = torch.randn(2, 5)
    for given in (torch.zeros(2, 5), embedding):
        denoiser(noisy(), torch.zeros(2), Conditioning(embedding=given))
    assert torch.allclose(seen[1] - seen[0], embedding @ denoiser.network.class_embedding.weight.T, atol=1e-5)


@needs_monai
def test_log_snr_becomes_the_time_of_the_cosine_schedule() -> None:
    """Check MONAI's timesteps against λ of the cosine schedule, λ(u) = -2 log tan(π u / 2)."""
    denoiser = built(Routes())
    seen: list[Tensor] = []
    denoiser.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    u = torch.tensor([0.1, 0.5])
    denoiser(noisy(), -2 * torch.log(torch.tan(math.pi / 2 * u)), Conditioning())
    assert torch.allclose(seen[0], 1000 * u, atol=1e-2)
    denoiser(noisy(), torch.tensor([-20.0, 20.0]), Conditioning())
    assert (seen[1] >= 0).all()
    assert (seen[1] <= 1000).all()


@needs_monai
def test_padding_repeats_the_border() -> None:
    denoiser = built(Routes())
    z_t = noisy()
    repeated = torch.cat([z_t[:, :, :, :, :5], z_t[:, :, :, :, 4:]], dim=4)
    repeated = torch.cat([repeated, repeated[:, :, :, 6:]], dim=3)
    whole = denoiser(repeated, torch.zeros(2), Conditioning())
    assert repeated.shape[2:] == (6, 8, 6)
    assert torch.allclose(denoiser(z_t, torch.zeros(2), Conditioning()), whole[:, :, :, :7, :5], atol=1e-5)


@needs_monai
def test_the_output_starts_at_zero() -> None:
    denoiser = registry.load("denoiser", "monai")(**SMALL)
    denoiser.build(channels=1, routes=Routes())
    assert not denoiser(noisy(), torch.zeros(2), Conditioning()).any()


@needs_monai
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"channels": (8, 10)}, r"channels \(8, 10\) must be multiples of groups 4"),
        ({"attention": (2,)}, "attention must name levels from -2 to 1"),
        ({"head_channels": 5}, "head_channels 5 must divide .* 16"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        registry.load("denoiser", "monai")(**(SMALL | config))


@needs_monai
def test_a_conditioning_with_other_routes_is_refused() -> None:
    with pytest.raises(ValueError, match="built for 3 channels on the route 'tokens', got 0"):
        built(Routes(tokens=3))(noisy(), torch.zeros(2), Conditioning())


def test_without_monai_the_list_says_what_to_install(longigen: Any, tmp_path: Path) -> None:
    """MONAI is hidden from a new process, in which all other components still work."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.abc, importlib.util, sys\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'monai':\n"
        "            raise ModuleNotFoundError(\"No module named 'monai'\", name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    listed = longigen("list", "denoisers", **environment).stdout
    assert "not loadable: it needs the package 'monai', which is not installed; pip install 'longigen[monai]'" in listed
    assert "broken" not in listed
    rows = {
        row["name"]: row
        for row in json.loads(longigen("list", "denoisers", "--json", **environment).stdout)["denoisers"]
    }
    assert rows["monai"]["extra"] == "longigen[monai]"
    assert "problem" not in rows["unet3d"]
    message = longigen("check", "monai", "--kind", "denoiser", status=2, **environment).stderr
    assert "The denoiser 'monai' cannot be loaded: it needs the package 'monai'" in message
    assert "pip install 'longigen[monai]'" in message
    assert "Traceback" not in message
