"""What a run writes down while it goes: metrics for people, plots and the status screen."""
