"""The command line of longigen."""
