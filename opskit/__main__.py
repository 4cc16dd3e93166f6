"""`python -m opskit`, the same as the `opskit` command."""

from opskit.cli.main import main

main()
