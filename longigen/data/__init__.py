"""Data sets: read volumes, preprocess and cache visits, split by subject, draw training pairs."""
