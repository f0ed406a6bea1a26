"""The folder of a run: paths, lock, plan, checksums, progress."""
