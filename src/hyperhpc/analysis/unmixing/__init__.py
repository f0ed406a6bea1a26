"""Linear unmixing: endmembers found among pixels, and their fractions in each pixel."""
