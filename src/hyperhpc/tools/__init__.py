"""Commands beside `run`: each does one job on a scene or on a finished run."""
