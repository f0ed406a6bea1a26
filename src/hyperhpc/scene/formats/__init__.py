"""One module for each file format that a scene may have."""
