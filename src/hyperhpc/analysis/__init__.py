"""The science: pure functions on numpy arrays. No Dask, no files, no xarray."""
