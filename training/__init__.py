"""Training code of the packaged models; run from a checkout, not part of the wheel."""
