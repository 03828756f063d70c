"""Recipes, runs and the training loop."""
