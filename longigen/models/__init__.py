"""The composed model: guidance, weights on disk, prediction, forecasts of one subject and their files."""
