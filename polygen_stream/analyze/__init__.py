"""Analysis of a run: the sample grid and the report."""
