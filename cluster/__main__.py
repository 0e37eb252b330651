"""`python -m cluster train recipes/quickstart.yaml`: the command line without an installed script."""

from cluster.cli import main

main()
