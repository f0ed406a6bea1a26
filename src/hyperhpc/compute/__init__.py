"""The work on pixels: tiles, the sample, the models, the maps."""
