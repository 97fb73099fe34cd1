"""Objectives: losses per token, one file per loss."""
