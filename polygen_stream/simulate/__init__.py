"""Simulation of a run: the project's own ring, rate limiter, curriculum and production mix, on SimPy's clock."""
