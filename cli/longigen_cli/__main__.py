"""``python -m longigen_cli``."""

from longigen_cli.main import main

main()
