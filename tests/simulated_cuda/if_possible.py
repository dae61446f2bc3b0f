"""Puts the devices in torch's way where they can be built; elsewhere torch finds those that are there."""

from tests.simulated_cuda.build import why_not

SIMULATED = why_not() is None

if SIMULATED:
    import tests.simulated_cuda.plugin  # noqa: F401
