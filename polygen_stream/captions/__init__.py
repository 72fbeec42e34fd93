"""Captions: where they come from, how they are checked and which of them a run uses."""
