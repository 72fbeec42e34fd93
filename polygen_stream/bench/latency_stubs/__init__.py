"""Stand-ins for models that take the time of a GPU and none of a CPU."""
