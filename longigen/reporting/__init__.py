"""Pages to look at: a report of a run, of results and of generated visits, and a viewer of volumes."""
