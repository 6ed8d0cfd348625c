"""``python -m isentrope``."""

from isentrope.cli import main

main()
