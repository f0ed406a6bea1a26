"""The work on pixels: from the scene to models and maps, on the workers.

Every pass runs a function on each tile by :func:`~hyperhpc.compute.tiles.run_tiles`.

================  =====================================================================
``tiles``         run a function on every tile, resume, tiles that cannot be read
``transpose``     a copy of a scene stored band by band, so that tiles can be read
``selection``     which bands are used; spectra at points
``grid_file``     a raw array on disk that many processes write
``sample``        the sample pass: every stride-th pixel
``sums``          sums over the sample, on workers
``starts``        where the full-batch model begins
``estimators``    mini-batch k-means, models of scikit-learn and dask-ml
``models``        what labels pixels
``fitting``       all models of a run, to model.json
``applied``       a model of another run
``classify``      the classify pass: indices and labels of every pixel
``stores``        the Zarr stores of a run
``overview``      their levels of detail, for pictures
================  =====================================================================
"""
