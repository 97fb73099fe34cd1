"""Make tables, figures and pages from the results table alone."""
