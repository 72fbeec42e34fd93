"""Simulation of a run: the project's own ring, limiter, curriculum and production mix, with SimPy supplying the time."""
