"""``python -m longigen``: the command line."""

from longigen_cli.main import main

main()
