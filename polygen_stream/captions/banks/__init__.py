"""Concept banks: what captions are about."""
