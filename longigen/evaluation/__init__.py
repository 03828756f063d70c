"""Protocol, scores and benchmark tables."""
