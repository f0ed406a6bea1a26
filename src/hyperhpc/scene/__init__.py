"""Formats in, canonical scenes out. The door is :func:`open_scene`."""
