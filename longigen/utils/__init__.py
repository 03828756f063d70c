"""General helpers: atomic file writes, seeds, confidence intervals, progress bars, threads, memory, time units."""
