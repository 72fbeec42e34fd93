"""Arithmetic before a run: what a config needs, where it goes, and what comes out. Imports no torch, starts nothing."""
