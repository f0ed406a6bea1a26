"""The work on pixels: from the scene to models and maps, on the workers.

``tiles`` runs a function on every tile, as each pass does; ``transpose`` copies a scene stored
band by band, so that it can be read in tiles; ``selection`` chooses bands and reads spectra at
points. ``sample`` takes every stride-th pixel, and ``fit`` makes the models of it. ``classify``
computes indices and labels of every pixel. ``stores``, ``results_store`` and ``overview`` are
what is on disk, and ``grid_file`` is a raw array that many processes write.
"""
