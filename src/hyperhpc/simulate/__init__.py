"""Simulated scenes that look like NEON land, with their true classes.

scene (the function simulate) | land (cover, edges, tiles) | materials (spectra, noise) |
write_zarr, write_neon (stores and files).
"""
