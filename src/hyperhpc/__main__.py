"""``python -m hyperhpc``."""

from hyperhpc.cli import main

main()
