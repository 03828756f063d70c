"""From files to tensors: volumes, preprocessing, cache, splits, training pairs."""
