"""Checks of captions and hard negatives."""
