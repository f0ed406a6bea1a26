"""Hyperspectral analysis of whole scenes, on a laptop or on a cluster, with the same bits."""

__version__ = "0.1.0"
