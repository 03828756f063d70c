"""No denoising: the conditioning signal is the prediction."""

import torch
from torch import Tensor, nn

from longigen import Conditioning, Denoiser, Routes


class IdentityDenoiser(Denoiser):
    """The conditioning signal as the prediction; the noisy volume and the noise level are not looked at.

    With the `regression` sampler it is the ablation "without diffusion" of SADM (Yoon et al., IPMI 2023, arXiv
    2212.08228, Table 2), which minimises the ℓ2 distance of the conditioning signal c to the target; training so is
    also the paper's pretraining of the attention module.

    - Where `concat` has the volume's C channels and is the only route, it is the prediction, and there are no
      parameters. For SADM's c that is ``conditioner.features=1`` and ``model.target=image``.
    - Anything else is read out linearly, voxel by voxel: a 1×1×1 convolution of `concat` and `stem`, a linear map of
      `embedding` and of the mean of `tokens` added to every voxel, and a bias. The read-out starts at zero, so with
      ``model.target=residual``, where the last visit lies on `concat` too, training starts at copy-last.
    """

    denoises = False
    predicts = "x"

    def build(self, *, channels: int, routes: Routes) -> None:
        self.bare = routes == Routes(concat=channels)
        if self.bare:
            return
        self.bias = nn.Parameter(torch.zeros(channels))
        self.read = nn.ModuleDict()
        for route, width in vars(routes).items():
            if width:
                volume = route in ("concat", "stem")
                layer = nn.Conv3d(width, channels, 1, bias=False) if volume else nn.Linear(width, channels, bias=False)
                nn.init.zeros_(layer.weight)
                self.read[route] = layer

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        if self.bare:
            assert conditioning.concat is not None
            return conditioning.concat.to(z_t.dtype)
        output = self.bias[:, None, None, None].expand_as(z_t)
        for route, layer in self.read.items():
            given = getattr(conditioning, route)
            read = layer(given.mean(dim=1) if route == "tokens" else given)
            output = output + (read if read.ndim == z_t.ndim else read[:, :, None, None, None])
        return output.to(z_t.dtype)
