"""The composed model: diffusion targets, guidance, weights on disk, prediction."""
