"""The checks of `longigen doctor`: per volume, per subject, over the cohort, and for duplicate subjects."""
