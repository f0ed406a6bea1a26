"""The science: pure functions on numpy arrays, without Dask, files or xarray.

``kernel`` labels pixels by the nearest centre; ``kmeans``, ``starts`` and ``minibatch`` fit
the centres; ``bands`` chooses bands; ``formula`` and ``indices`` (with ``indices.toml``) are
the spectral indices; ``spectra`` are spectra at points and their statistics; ``agreement``
compares labels and scores numbers of clusters.
"""
