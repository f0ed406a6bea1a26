"""Scenes that look like NEON land, with their true classes."""
