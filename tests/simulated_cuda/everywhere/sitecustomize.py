"""Python imports this as it starts where the folder is on its path."""

import tests.simulated_cuda.plugin  # noqa: F401
