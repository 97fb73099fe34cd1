"""Compression: a text of any length to an archive, and back to the same bytes."""
