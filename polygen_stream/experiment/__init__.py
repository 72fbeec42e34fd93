"""Experiments: grids of small runs over one pool of rendered data, with intervals."""
