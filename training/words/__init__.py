"""Recipe of the packaged word list."""
