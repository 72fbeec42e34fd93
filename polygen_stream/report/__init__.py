"""The HTML report of a run, its plots, and the dashboard that serves it while the run goes on."""
