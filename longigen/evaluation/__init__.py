"""Evaluation of models by a fixed protocol, and benchmark tables of several methods."""
