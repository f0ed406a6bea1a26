"""One run from start to end.

``prepare`` finds out and checks all before anything is written, and gives the frozen
``context``; ``runner`` takes it through the ``passes``; ``managed`` holds lock, status and
workers of every long command; ``header`` and ``record`` write run.json; ``repair`` computes
damaged tiles of a complete run again.
"""
