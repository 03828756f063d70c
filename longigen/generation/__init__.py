"""Generate the visits of a data set's subjects with a loaded model, and write them."""
