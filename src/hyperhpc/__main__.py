"""``python -m hyperhpc``."""

from hyperhpc.cli.main import main

main()
