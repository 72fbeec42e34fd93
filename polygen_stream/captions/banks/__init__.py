"""Concept banks: the concepts that captions are about, with prompts and checks for language models."""
