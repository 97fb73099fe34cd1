"""Train, grow and describe the small packaged models of the family `pocket`."""
