"""``python -m slmdock``."""

from slmdock.cli import main

main()
