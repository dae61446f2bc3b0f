"""Neural architecture search over CNNs whose blocks choose whether to use Squeeze-and-Excitation, and at which ratio."""

__version__ = "0.1.0"
