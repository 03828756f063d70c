"""Generating the visits of a cohort and writing them."""
