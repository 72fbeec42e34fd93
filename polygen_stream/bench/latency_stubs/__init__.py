"""Latency stubs: roles that take the time of a GPU and hardly any of a CPU."""
