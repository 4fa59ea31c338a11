"""medsweep: honest, reproducible CNN experiments on labelled medical images."""

__version__ = "0.1.0"
