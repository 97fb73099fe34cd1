"""Studies: a grid of texts, lengths and vectors, measured once each and kept."""
