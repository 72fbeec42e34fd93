"""Checks of English captions and of their hard negatives."""
