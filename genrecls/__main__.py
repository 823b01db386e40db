"""Run the command with python -m genrecls."""

from genrecls.cli import main

main()
