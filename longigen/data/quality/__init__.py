"""`longigen doctor`: checks of a data set."""
