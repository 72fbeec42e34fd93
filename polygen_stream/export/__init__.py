"""A run's captions and pictures as an ordinary dataset: shards, exported after a run or written while it goes on."""
