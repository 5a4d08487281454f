"""`python -m dtrain`: the same as `dtrain`."""

from dtrain.cli.main import main

main()
