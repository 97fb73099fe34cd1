"""Tables, figures and pages from the results table, and from nothing else."""
