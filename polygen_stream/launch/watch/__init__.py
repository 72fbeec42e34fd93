"""Looking at a run: status, inspection, limits, metrics, traces."""
