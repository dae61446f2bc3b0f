"""Neural architecture search over CNNs that choose, block by block, whether to use SE and at which ratio."""

__version__ = "0.1.0"
