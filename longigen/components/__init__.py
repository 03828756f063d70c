"""The contracts that a plugin derives from: conditioner, denoiser, sampler, metric, and the tensors between them."""
