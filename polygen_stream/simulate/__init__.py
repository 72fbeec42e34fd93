"""Simulation of a run: the project's own ring, limiter, curriculum and production mix, and SimPy's clock."""
