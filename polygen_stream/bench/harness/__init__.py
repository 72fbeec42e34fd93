"""A baseline at work in processes of its own, on a workload whose every sample is checked."""
