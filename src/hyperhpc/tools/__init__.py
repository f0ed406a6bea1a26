"""The commands other than ``run``: each does one job on a scene or on a run.

===========  ========================================================================
ingest       copies scenes into a Zarr store that is fast to read
inspect      facts and spectra of a scene
extract      spectra of a scene at the points, or in the polygons, of a file
plots        indices and classes of a run there
areas        what both share: features of a file on a grid of pixels
choose_k     tries numbers of clusters on a sample
classes      names, colours and merges of the clusters of a run
endmembers   finds the purest pixels of a scene
compare      compares the clusters of two runs
preview      the report of a run as it stands on disk, finished or not
verify       checks the files of a run against their checksums
export/      maps as GeoTIFF, polygons as GeoPackage, tables as CSV or Parquet
demo         simulates a scene and runs on it
sampled      the pixels that choose_k and endmembers look at
csv_table    the form of all tables
===========  ========================================================================
"""
