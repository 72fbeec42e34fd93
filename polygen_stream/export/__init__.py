"""A run's captions and images as an ordinary dataset: shards, exported after a run or recorded during it."""
