"""The identity denoiser: the conditioning is the prediction."""

import torch
from torch import Tensor, nn

from longigen import Conditioning, Denoiser, Routes


class IdentityDenoiser(Denoiser):
    """The conditioning as the prediction; the noisy volume and the noise level are ignored.

    With the `regression` sampler it is the ablation "without diffusion" of SADM (Yoon et al., IPMI 2023, arXiv
    2212.08228, Table 2), which minimises the ℓ2 distance of the conditioning signal c to the target. The paper also
    pretrains its attention module this way.

    - If `concat` is the only route and has the volume's C channels, it is the prediction, without any parameters. For
      SADM's c, set ``conditioner.features=1`` and ``model.target=image``.
    - Otherwise the prediction is a linear function of the routes in each voxel: a 1×1×1 convolution of `concat` and
      `stem`, plus linear maps of `embedding` and of the mean of `tokens`, the same in every voxel, plus a bias. All
      start at zero, so with ``model.target=residual`` training starts at copy-last.
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
            if conditioning.concat is None:
                raise ValueError("the denoiser was built for the route 'concat', which the conditioning does not have")
            return conditioning.concat.to(z_t.dtype)
        output = self.bias[:, None, None, None].expand_as(z_t)
        for route, layer in self.read.items():
            tensor = getattr(conditioning, route)
            term = layer(tensor.mean(dim=1) if route == "tokens" else tensor)
            output = output + (term if term.ndim == z_t.ndim else term[:, :, None, None, None])
        return output.to(z_t.dtype)
