"""`python -m se_nas` is `se-nas`."""

from se_nas.cli.main import run

run()
