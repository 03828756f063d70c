"""A model as files: its format, where it is found, downloading and publishing it."""
