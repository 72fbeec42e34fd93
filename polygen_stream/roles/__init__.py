"""What every process of a run has in common."""
