"""Base classes of conditioners, denoisers, samplers and metrics, and the tensors they exchange."""
