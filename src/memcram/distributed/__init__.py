"""Spread studies and long texts over several processes or machines, with Ray."""
